"""Prints what a folder of TFRecord shards holds: its counts, and its first records as text."""

import argparse
from collections.abc import Sequence

from algpt2 import cli, environment


def main(argv: Sequence[str]) -> int:
    """prints the counts and the records."""
    arguments = parse(argv)
    environment.require_tensorflow()
    from algpt2.inspection import inspect  # imports TensorFlow, which takes seconds

    cli.print_json(inspect(arguments.input, arguments.split, arguments.count))
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = cli.argument_parser(__doc__)
    parser.add_argument("--input", required=True, help="folder of make_tfrecords.py, local or gs://")
    parser.add_argument("--split", choices=("train", "val"), default="train", help="whose records (default: train)")
    parser.add_argument("--count", type=int, default=1, help="number of records to show (default: 1)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    cli.run(main)
