"""Run a study: every arm at every rate and seed that its spec asks for. The same command again goes on with it.

A cell is an arm at a rate with a seed: an ordinary run, in OUTPUT/cells, trained by a process of its own. What it came
to is a small file in OUTPUT/results. Each arm's rate is chosen on the selection seeds; the confirmation seeds follow.
"""

from algpt2 import interrupts

if __name__ == "__main__":
    interrupts.begin()

import argparse
import dataclasses
import functools
import sys
from collections.abc import Sequence

from algpt2 import cli
from algpt2.config.cadence import Cadence
from algpt2.config.options import add_options, given_options
from algpt2.config.tracking import TrackingConfig
from algpt2.devices import wheels
from algpt2.errors import UserError
from algpt2.preflight import rehearsal
from algpt2.studies.folder import opened_study, results_in
from algpt2.studies.listing import Speed, format_stages, list_stages
from algpt2.studies.orders import CADENCE_DEFAULTS, TRACKING_DEFAULTS, CellSettings, Orders, read_arm_records
from algpt2.studies.rehearsed import format_peaks, peaks_of, rehearse_arms
from algpt2.studies.results import StudyRecord
from algpt2.studies.runner import Runner, require_jobs
from algpt2.studies.spec import Spec, load_spec
from algpt2.studies.study_run import StudyRun


def main(argv: Sequence[str]) -> int:
    """Runs the cells that are left, and prints what has come of the study; 1 if a cell failed."""
    arguments = parse(argv)
    spec = load_spec(arguments.spec)
    arms = tuple(spec.arm(name).name for name in arguments.only or [arm.name for arm in spec.arms])
    if arguments.list:
        return _list(spec, arms, arguments)
    wheels.require_tensorflow()
    if arguments.rehearse:
        return _rehearse(spec, arms, arguments)
    require_jobs(arguments.jobs, arguments.tpu)
    orders = Orders(spec, _settings(arguments), arguments.output)
    record = StudyRecord(spec, orders.records_identity())
    with opened_study(arguments.output, record) as results:
        study = StudyRun(arguments.output, record, orders, arms, results, arguments.delete_checkpoints)
        Runner(study, arguments.jobs).run()
    cli.print_json(study.summary())
    return cli.EXIT_FAILURE if study.summary()["failed"] else cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    parser.add_argument("spec", metavar="SPEC", help="the study, a TOML file such as ablations/tiny.toml")
    _add_data_flags(parser)
    _add_run_flags(parser)
    add_options(parser, Cadence, CADENCE_DEFAULTS)
    add_options(parser, TrackingConfig, TRACKING_DEFAULTS)
    return parser


def _add_data_flags(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data and folder")
    path_help = "folders made by data_tools/make_tfrecords.py, or shards or patterns of shards; disk or gs://"
    data.add_argument("--train_path", nargs="+", metavar="PATH", help=path_help)
    data.add_argument("--val_path", nargs="+", metavar="PATH", help=f"{path_help}; all arms have the same")
    data.add_argument(
        "--arm_records",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="the training records of arms with `records = NAME`; may be given repeatedly, for one name too",
    )
    data.add_argument("--output", metavar="DIR", help="the study's folder, new or this study's, on disk or gs://")


def _add_run_flags(parser: argparse.ArgumentParser) -> None:
    run = parser.add_argument_group("run")
    run.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="ARM",
        help="the cells of this arm alone; may be given repeatedly",
    )
    run.add_argument("--jobs", type=int, default=1, help="cells at a time, which share the cores")
    run.add_argument("--tpu", metavar="NAME", help="a Cloud TPU's name, `local` on a TPU VM, or grpc://host:port")
    run.add_argument(
        "--delete_checkpoints", action="store_true", help="delete a cell's checkpoints once its result is written"
    )
    run.add_argument(
        "--rehearse",
        metavar="POD",
        help="compile each arm's step for a TPU like v3-8 without one, keep its memory in --output, and stop",
    )
    run.add_argument("--list", action="store_true", help="print what the stages take, and stop; needs SPEC alone")
    run.add_argument("--tokens_per_second", type=float, help="--list: speed by which hours are counted")
    run.add_argument("--flops_per_second", type=float, help="--list: the same, as differing models have it alike")


def _list(spec: Spec, arms: Sequence[str], arguments: argparse.Namespace) -> int:
    rows = list_stages(
        spec, arms, results_in(arguments.output, spec), Speed(arguments.tokens_per_second, arguments.flops_per_second)
    )
    print(format_stages(rows), file=sys.stderr)
    cli.print_json([dataclasses.asdict(row) for row in rows])
    return cli.EXIT_OK


def _rehearse(spec: Spec, arms: Sequence[str], arguments: argparse.Namespace) -> int:
    results_in(arguments.output, spec)  # A folder of another study is refused before minutes of compilations.
    rehearse = functools.partial(rehearsal.rehearse, pod_name=arguments.rehearse, search=False)
    found = rehearse_arms(spec, arms, rehearse)
    if arguments.output:
        peaks_of(found).write(arguments.output)
    print(format_peaks(found), file=sys.stderr)
    cli.print_json({name: one.figures() for name, one in found.items()})
    return cli.EXIT_OK if all(one.fits for one in found.values()) else cli.EXIT_USER_ERROR


def _settings(arguments: argparse.Namespace) -> CellSettings:
    for name in ("train_path", "val_path", "output"):
        if not getattr(arguments, name):
            raise UserError(f"--{name} must be given to run a study, and it was not: give it, or --list alone.")
    return CellSettings(
        train_path=tuple(arguments.train_path),
        val_path=tuple(arguments.val_path),
        arm_paths=read_arm_records(arguments.arm_records),
        cadence=given_options(arguments, Cadence),
        tracking=TrackingConfig(**TRACKING_DEFAULTS | given_options(arguments, TrackingConfig)),
        tpu=arguments.tpu,
    )


if __name__ == "__main__":
    cli.run(main)
