"""Compare finished runs: a table for people on stderr, the same rows as JSON on stdout."""

from algpt2 import interrupts

if __name__ == "__main__":
    interrupts.begin()

import argparse
import sys
from collections.abc import Sequence

from algpt2 import cli
from algpt2.records.record_set import open_record_set
from algpt2.tracking.comparison import compare_runs, format_table


def main(argv: Sequence[str]) -> int:
    """Prints the table and the rows."""
    arguments = parse(argv)
    val_records = open_record_set(arguments.val_path, "val", check_content=False)  # only their counts are compared
    rows = compare_runs(arguments.run, arguments.evaluation, val_records)
    print(format_table(rows), file=sys.stderr)
    cli.print_json(rows)
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    parser.add_argument("--run", nargs="+", required=True, metavar="DIR", help="folders (--model_dir) of finished runs")
    parser.add_argument("--val_path", nargs="+", required=True, metavar="PATH", help="what they were validated on")
    evaluation_help = "JSON results of eval/wikitext.py, one for each run in the same order"
    parser.add_argument("--evaluation", nargs="+", default=[], metavar="FILE", help=evaluation_help)
    return parser


if __name__ == "__main__":
    cli.run(main)
