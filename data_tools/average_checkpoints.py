"""Average the parameters of several checkpoints of one model into a new one, for evaluation and generation.

The result loads in generate.py and eval/wikitext.py. It has no optimizer state: training cannot resume from it.
"""

from algpt2 import interrupts

if __name__ == "__main__":
    interrupts.begin()

import argparse
from collections.abc import Sequence

from algpt2 import cli
from algpt2.devices import wheels


def main(argv: Sequence[str]) -> int:
    """Averages, and prints what was averaged as JSON."""
    arguments = parse(argv)
    wheels.load_tensorflow()

    from algpt2.checkpoints.averaging import average_checkpoints

    state = average_checkpoints(arguments.checkpoint, arguments.output)
    cli.print_json({"checkpoint": arguments.output, **state})
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    checkpoint_help = "two or more checkpoints, or --model_dir folders, each of which stands for its newest"
    parser.add_argument("--checkpoint", nargs="+", required=True, metavar="DIR", help=checkpoint_help)
    parser.add_argument("--output", required=True, metavar="DIR", help="a new or empty folder, on disk or gs://")
    return parser


if __name__ == "__main__":
    cli.run(main)
