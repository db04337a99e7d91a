"""Write one HTML page about several training runs, finished or not: curves over tokens and a table."""

from algpt2 import interrupts

if __name__ == "__main__":
    interrupts.begin()

import argparse
from collections.abc import Sequence

from algpt2 import cli
from algpt2.evaluation.published import VALIDATION_BASELINES
from algpt2.tracking.report import write_report


def main(argv: Sequence[str]) -> int:
    """Writes the page, and prints where it is as JSON."""
    arguments = parse(argv)
    cli.print_json(write_report(arguments.run, arguments.output, arguments.overwrite, arguments.validation_data))
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    parser.add_argument("run", nargs="+", metavar="RUN", help="folders (--model_dir) of runs")
    parser.add_argument("--output", required=True, metavar="FILE", help="the page (.html), on disk or gs://")
    parser.add_argument("--overwrite", action="store_true", help="replace --output where it exists")
    parser.add_argument(
        "--validation_data",
        choices=tuple(VALIDATION_BASELINES),
        help="what the validation records of every run are made of: draws GPT-2's published loss on it (default: none)",
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
