"""Run a study: every arm at every rate and seed that its spec asks for. The same command again goes on with it.

A cell is an arm at a rate with a seed: an ordinary run, in OUTPUT/cells, trained by a process of its own. What it came
to is a small file in OUTPUT/results. Each arm's rate is chosen on the selection seeds; the confirmation seeds follow.
"""

from algpt2 import interrupts

if __name__ == "__main__":
    interrupts.begin()

import argparse
from collections.abc import Sequence

from algpt2 import cli
from algpt2.config.cadence import Cadence
from algpt2.config.options import add_options, given_options
from algpt2.config.tracking import TrackingConfig
from algpt2.devices import wheels
from algpt2.studies.orders import CADENCE_DEFAULTS, TRACKING_DEFAULTS, CellSettings, Orders
from algpt2.studies.results import StudyRecord
from algpt2.studies.runner import StudyRun, opened_study, run_study
from algpt2.studies.spec import load_spec


def main(argv: Sequence[str]) -> int:
    """Runs the cells that are left, and prints what has come of the study; 1 if a cell failed."""
    arguments = parse(argv)
    wheels.require_tensorflow()
    spec = load_spec(arguments.spec)
    arms = tuple(spec.arm(name).name for name in arguments.only) or tuple(arm.name for arm in spec.arms)
    orders = Orders(spec, _settings(arguments), arguments.output)
    record = StudyRecord(spec, orders.records_identity())
    with opened_study(arguments.output, record) as results:
        outcome = run_study(StudyRun(arguments.output, record, orders, arms, results), arguments.jobs)
    cli.print_json(outcome)
    return cli.EXIT_FAILURE if outcome["failed"] else cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    parser.add_argument("spec", metavar="SPEC", help="the study, a TOML file: see ablations/tiny.toml")
    path_help = "folders made by data_tools/make_tfrecords.py, or shards or patterns of shards; disk or gs://"
    parser.add_argument("--train_path", nargs="+", required=True, metavar="PATH", help=path_help)
    parser.add_argument("--val_path", nargs="+", required=True, metavar="PATH", help=f"{path_help}; for all arms")
    parser.add_argument("--output", required=True, metavar="DIR", help="the study's folder, new or this study's")
    parser.add_argument(
        "--only", action="append", default=[], metavar="ARM", help="run the cells of this arm; may be given repeatedly"
    )
    parser.add_argument("--jobs", type=int, default=1, help="cells at a time, which share the cores (default: 1)")
    parser.add_argument("--tpu", metavar="NAME", help="a Cloud TPU's name, `local` on a TPU VM, or grpc://host:port")
    add_options(parser, Cadence, CADENCE_DEFAULTS)
    add_options(parser, TrackingConfig, TRACKING_DEFAULTS)
    return parser


def _settings(arguments: argparse.Namespace) -> CellSettings:
    return CellSettings(
        train_path=tuple(arguments.train_path),
        val_path=tuple(arguments.val_path),
        arm_paths={},
        cadence=given_options(arguments, Cadence),
        tracking=TrackingConfig(**{**TRACKING_DEFAULTS, **given_options(arguments, TrackingConfig)}),
        tpu=arguments.tpu,
    )


if __name__ == "__main__":
    cli.run(main)
