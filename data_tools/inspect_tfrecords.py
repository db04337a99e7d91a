"""Print what a folder of TFRecord shards holds: its counts, and its first records as text.

With --statistics, read every record of a split and say how long documents are and how often tokens come; with --plot,
draw that too. With --replay, print the records that a run trained on at one step instead. verify_tfrecords.py compares
the shards with their manifest.
"""

from algpt2 import interrupts

if __name__ == "__main__":
    interrupts.begin()

import argparse
from collections.abc import Sequence
from typing import Any

from algpt2 import cli
from algpt2.devices import wheels
from algpt2.errors import UserError


def main(argv: Sequence[str]) -> int:
    """Prints the counts and the records as JSON."""
    arguments = parse(argv)
    wheels.load_tensorflow()

    from algpt2.records.inspection import inspect
    from algpt2.tracking.replay import replay

    if arguments.plot and not arguments.statistics:
        raise UserError("--plot draws what --statistics counts, which was not given: give both or neither.")
    if arguments.replay is not None:
        cli.print_json(replay(arguments.input, _model_dir(arguments), arguments.replay))
    elif arguments.statistics:
        cli.print_json(_statistics(_one_folder(arguments), arguments.split, arguments.plot))
    else:
        cli.print_json(inspect(_one_folder(arguments), arguments.split, arguments.count))
    return cli.EXIT_OK


def _statistics(folder: str, split: str, plot: str | None) -> dict[str, Any]:
    from algpt2.records.statistics import statistics
    from algpt2.tracking.record_charts import require_drawable, write_statistics_image

    if plot is None:
        return statistics(folder, split)
    require_drawable(plot)
    return statistics(folder, split, lambda tallies: write_statistics_image(plot, tallies))


def _model_dir(arguments: argparse.Namespace) -> str:
    if not arguments.model_dir:
        raise UserError("--replay needs --model_dir, the folder of the run, and it was not given.")
    return arguments.model_dir


def _one_folder(arguments: argparse.Namespace) -> str:
    if arguments.model_dir:
        raise UserError("--model_dir says whose steps to replay, and --replay was not given: give both or neither.")
    if len(arguments.input) > 1:
        raise UserError(f"--input must be one folder unless --replay is given, received {len(arguments.input)}.")
    return arguments.input[0]


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="DIR",
        help="folder of make_tfrecords.py, local or gs://; with --replay the run's whole --train_path",
    )
    parser.add_argument("--split", choices=("train", "val"), default="train", help="whose records (default: train)")
    parser.add_argument("--count", type=int, default=1, help="number of records to show (default: 1)")
    instead = parser.add_mutually_exclusive_group()
    statistics_help = "read every record of the split: lengths of documents, documents of a record, frequent tokens"
    instead.add_argument("--statistics", action="store_true", help=statistics_help)
    instead.add_argument("--replay", type=int, metavar="STEP", help="show the batch of this step (0-based) of a run")
    parser.add_argument("--model_dir", metavar="DIR", help="--replay: the run's folder")
    parser.add_argument("--plot", metavar="FILE", help="--statistics: draw them in a new .svg or .png (extra report)")
    return parser


if __name__ == "__main__":
    cli.run(main)
