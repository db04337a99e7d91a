"""Writes a demonstration corpus: the docstrings of the Python packages installed here. No download."""

from collections.abc import Sequence

from algpt2 import cli
from algpt2.demo_corpus import write_demo_corpus


def main(argv: Sequence[str]) -> int:
    """Parses the command line, writes the corpus, prints its counts."""
    parser = cli.argument_parser(__doc__)
    parser.add_argument("--output", required=True, help="new folder, local or gs://, for corpus.jsonl and heldout.txt")
    arguments = parser.parse_args(argv)
    cli.print_json(write_demo_corpus(arguments.output))
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)
