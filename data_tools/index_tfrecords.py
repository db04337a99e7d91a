"""Make a folder of TFRecords from elsewhere ready for training: check every record, write manifest and tokenizer."""

from algpt2 import interrupts

if __name__ == "__main__":
    interrupts.begin()

import argparse
from collections.abc import Sequence

from algpt2 import cli
from algpt2.devices import wheels


def main(argv: Sequence[str]) -> int:
    """Indexes the folder, and prints its counts as JSON."""
    arguments = parse(argv)
    wheels.load_tensorflow()

    from algpt2.records.indexing import index_tfrecords

    cli.print_json(index_tfrecords(arguments.input, arguments.tokenizer, arguments.val_pattern))
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    input_help = "folder with TFRecord files of `ids`, or of `inputs` and `labels`, on disk or gs://"
    parser.add_argument("--input", required=True, metavar="DIR", help=input_help)
    parser.add_argument("--tokenizer", required=True, metavar="DIR", help="what the records were made with")
    val_help = "names of the files to validate on; all others are to train on (default: val*)"
    parser.add_argument("--val_pattern", default="val*", metavar="PATTERN", help=val_help)
    return parser


if __name__ == "__main__":
    cli.run(main)
