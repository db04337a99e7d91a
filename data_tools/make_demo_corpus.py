"""Write a demonstration corpus: the docstrings of the Python packages installed here. No download."""

from algpt2 import interrupts

if __name__ == "__main__":
    interrupts.begin()

import argparse
from collections.abc import Sequence

from algpt2 import cli
from algpt2.text.demo_corpus import write_demo_corpus


def main(argv: Sequence[str]) -> int:
    """Writes the corpus, and prints its counts as JSON."""
    arguments = parse(argv)
    cli.print_json(write_demo_corpus(arguments.output))
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    parser.add_argument("--output", required=True, help="new folder, local or gs://, for corpus.jsonl and heldout.txt")
    return parser


if __name__ == "__main__":
    cli.run(main)
