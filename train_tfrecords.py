"""Train GPT-2 or ALGPT-2 on TFRecords: shards in, checkpoints out. The same command again resumes the run."""

import argparse
import dataclasses
from collections.abc import Sequence

from algpt2 import cli, doctor, environment
from algpt2.config import MODEL_TYPES, GPTConfig, load_config, preset_names
from algpt2.errors import UserError
from algpt2.flops import CHIPS
from algpt2.options import add_options, given_options
from algpt2.record_set import RecordSet, open_record_set
from algpt2.run_plan import Run, steps_of_epochs
from algpt2.train_config import DEFAULT_LEARNING_RATE, Cadence, TrainConfig


def main(argv: Sequence[str]) -> int:
    """Trains, and prints the final figures as JSON."""
    arguments = parse(argv)
    if arguments.doctor:
        return doctor.report(doctor.examine(_intent(arguments)))
    environment.require_tensorflow()
    run = plan(arguments)
    if arguments.dry_run:
        cli.print_json(run.describe())
        return cli.EXIT_OK
    from algpt2 import distribution  # TensorFlow takes seconds to import, and may be missing until checked
    from algpt2.training import train

    distribution.require_readable_by_tpu(arguments.tpu, run.data_paths())
    cli.print_json(train(run, distribution.create_strategy(arguments.tpu)))
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = cli.argument_parser(__doc__)
    data = parser.add_argument_group("data and model")
    path_help = "folders made by data_tools/make_tfrecords.py, or shards or patterns of shards; disk or gs://"
    data.add_argument("--train_path", nargs="+", required=True, metavar="PATH", help=path_help)
    data.add_argument("--val_path", nargs="+", default=[], metavar="PATH", help=f"{path_help} (default: no validation)")
    data.add_argument("--train_len", type=int, help="records in --train_path; an error if the manifest disagrees")
    data.add_argument("--model_type", choices=MODEL_TYPES, help="an error if --config_path is of the other type")
    data.add_argument(
        "--config_path",
        metavar="NAME|JSON|DIR",
        help=f"a preset ({', '.join(preset_names())}), a JSON file, or a checkpoint (default: --model_type)",
    )
    data.add_argument("--seq_len", type=int, help="positions of the model (default: the config's)")
    data.add_argument(
        "--model_dir", metavar="DIR", help="the run's folder, on disk or gs://; holding this run, it resumes"
    )
    run = parser.add_argument_group("run")
    run.add_argument("--tpu", metavar="NAME", help="a Cloud TPU's name, `local` on a TPU VM, or grpc://host:port")
    run.add_argument("--dry_run", action="store_true", help="print the resolved configuration and counts, and stop")
    run.add_argument(
        "--doctor", action="store_true", help="check everything that the run needs, train nothing, and stop"
    )
    run.add_argument("--device_kind", metavar="KIND", help=f"--doctor: {', '.join(CHIPS)} (default: found out)")
    run.add_argument("--mfu", type=float, default=0.3, help="--doctor: assumed fraction of the peak (default: 0.3)")
    length = run.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=float, default=1.0, help="passes over the records (default: 1)")
    length.add_argument("--steps", type=int, help="optimizer steps, instead of --epochs")
    add_options(parser, TrainConfig)
    add_options(parser, Cadence)
    return parser.parse_args(argv)


def plan(arguments: argparse.Namespace) -> Run:
    """Returns the run that a command line means."""
    if not arguments.model_dir and not arguments.dry_run:
        raise UserError("--model_dir must name a folder for checkpoints, and it was not given.")
    train_records = _train_records(arguments)
    return Run(
        model_config=_model_config(arguments),
        train_config=_train_config(arguments, train_records),
        cadence=Cadence(**given_options(arguments, Cadence)),
        train_records=train_records,
        val_records=_val_records(arguments),
        model_dir=arguments.model_dir,
    )


def _intent(arguments: argparse.Namespace) -> doctor.Intent:
    return doctor.Intent(
        model_config=lambda: _model_config(arguments),
        train_records=lambda: _train_records(arguments),
        val_records=lambda: _val_records(arguments),
        train_config=lambda train_records: _train_config(arguments, train_records),
        cadence=lambda: Cadence(**given_options(arguments, Cadence)),
        model_dir=arguments.model_dir,
        tpu=arguments.tpu,
        device_kind=arguments.device_kind,
        mfu=arguments.mfu,
    )


def _train_records(arguments: argparse.Namespace) -> RecordSet:
    train_records = open_record_set(arguments.train_path, "train")
    if arguments.train_len not in (None, train_records.records):
        raise UserError(
            f"--train_len must be the number of training records, which is {train_records.records} by the manifest, "
            f"received {arguments.train_len}: leave the flag out."
        )
    return train_records


def _val_records(arguments: argparse.Namespace) -> RecordSet | None:
    return open_record_set(arguments.val_path, "val") if arguments.val_path else None


def _model_config(arguments: argparse.Namespace) -> GPTConfig:
    name_or_path = arguments.config_path or arguments.model_type
    if not name_or_path:
        raise UserError(
            f"--config_path must name a model, one of {', '.join(preset_names())}, a JSON file or a folder."
        )
    config = load_config(name_or_path)
    if arguments.model_type not in (None, config.model_type):
        raise UserError(
            f"--model_type must be the type of --config_path, which is {config.model_type}, "
            f"received {arguments.model_type}: leave the flag out."
        )
    return config if arguments.seq_len is None else dataclasses.replace(config, seq_len=arguments.seq_len)


def _train_config(arguments: argparse.Namespace, train_records: RecordSet) -> TrainConfig:
    given = given_options(arguments, TrainConfig)
    given.setdefault("learning_rate", DEFAULT_LEARNING_RATE[given.get("optimizer", TrainConfig.optimizer)])
    given.setdefault("compute_dtype", "bfloat16" if arguments.tpu else TrainConfig.compute_dtype)
    batch_size = given.get("batch_size", TrainConfig.batch_size)
    if batch_size < 1:
        raise UserError(f"--batch_size must be at least 1, received {batch_size}.")
    steps = arguments.steps
    if steps is not None and steps < 1:
        raise UserError(f"--steps must be at least 1, received {steps}.")
    if steps is None:
        steps = steps_of_epochs(arguments.epochs, train_records, batch_size)
    return TrainConfig(total_steps=steps, **given)


if __name__ == "__main__":
    cli.run(main)
