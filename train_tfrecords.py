"""Train GPT-2 or ALGPT-2 on TFRecords: shards in, checkpoints out. The same command again resumes the run."""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

from algpt2 import cli, doctor, environment, rehearsal
from algpt2.config import MODEL_TYPES, GPTConfig, load_config, preset_names
from algpt2.errors import UserError
from algpt2.flops import device_kind_of
from algpt2.options import add_options, given_options
from algpt2.record_set import RecordSet, open_record_set
from algpt2.run_folder import RunIdentity, read_run
from algpt2.run_plan import InitialWeights, Run, steps_of_epochs
from algpt2.train_config import DEFAULT_LEARNING_RATE, Cadence, TrainConfig
from algpt2.watching import Watching


def main(argv: Sequence[str]) -> int:
    """Trains, and prints the final figures as JSON."""
    arguments = parse(argv)
    if arguments.doctor:
        return doctor.report(doctor.examine(_intent(arguments)))
    if arguments.rewind_to is not None:
        cli.print_json(_rewind(arguments))
        return cli.EXIT_OK
    environment.require_tensorflow()
    run = plan(arguments)
    if arguments.dry_run:
        cli.print_json(run.describe())
        return cli.EXIT_OK
    if arguments.rehearse:
        return rehearsal.report(rehearsal.rehearse(run.model_config, run.train_config, arguments.rehearse))
    from algpt2 import distribution  # TensorFlow takes seconds to import, and may be missing until checked
    from algpt2.training import train

    distribution.require_readable_by_tpu(arguments.tpu, run.data_paths())
    cli.print_json(train(run, distribution.create_strategy(arguments.tpu)))
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = cli.argument_parser(__doc__)
    _add_data_flags(parser)
    _add_run_flags(parser)
    add_options(parser, TrainConfig)
    add_options(parser, Cadence)
    add_options(parser, Watching)
    return parser.parse_args(argv)


def _add_data_flags(parser: argparse.ArgumentParser) -> None:
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
    data.add_argument(
        "--initialize_from",
        metavar="DIR",
        help="a checkpoint, or a --model_dir with some, whose weights a new run begins with, at step 0",
    )
    data.add_argument(
        "--duplicate_layers",
        action="store_true",
        help="--initialize_from: repeat its layers, evenly spread, where the model has more",
    )


def _add_run_flags(parser: argparse.ArgumentParser) -> None:
    run = parser.add_argument_group("run")
    run.add_argument("--tpu", metavar="NAME", help="a Cloud TPU's name, `local` on a TPU VM, or grpc://host:port")
    run.add_argument("--dry_run", action="store_true", help="print the resolved configuration and counts, and stop")
    run.add_argument(
        "--doctor", action="store_true", help="check everything that the run needs, train nothing, and stop"
    )
    run.add_argument("--mfu", type=float, default=0.3, help="--doctor: assumed fraction of the peak (default: 0.3)")
    run.add_argument(
        "--rewind_to",
        type=int,
        metavar="STEP",
        help="set --model_dir back to its checkpoint of this step, keep what came later in a folder in it, and stop",
    )
    run.add_argument(
        "--rehearse", metavar="POD", help="compile the step for a TPU like v3-128 without one: memory, bounds; and stop"
    )
    length = run.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=float, help="passes over the records (default: the run's, or 1)")
    length.add_argument("--steps", type=int, help="optimizer steps, instead of --epochs")


def plan(arguments: argparse.Namespace) -> Run:
    """Returns the run that a command line means."""
    if not arguments.model_dir and not arguments.dry_run and not arguments.rehearse:
        raise UserError("--model_dir must name a folder for checkpoints, and it was not given.")
    begun = _begun_run(arguments)
    train_records = _train_records(arguments)
    return Run(
        model_config=_model_config(arguments, begun),
        train_config=_train_config(arguments, train_records, begun),
        cadence=Cadence(**given_options(arguments, Cadence)),
        train_records=train_records,
        val_records=_val_records(arguments),
        model_dir=arguments.model_dir,
        initial_weights=_initial_weights(arguments, begun),
        watching=_watching(arguments),
    )


def _watching(arguments: argparse.Namespace) -> Watching:
    """A TPU named 'v3-128' is taken to be one."""
    given = given_options(arguments, Watching)
    given.setdefault("device_kind", device_kind_of(arguments.tpu))
    return Watching(**given)


def _rewind(arguments: argparse.Namespace) -> dict[str, Any]:
    if not arguments.model_dir:
        raise UserError("--rewind_to needs --model_dir, the folder of a run, and it was not given.")
    from algpt2.rewind import rewind  # what checkpoints are made of is slow to import

    return rewind(arguments.model_dir, arguments.rewind_to)


def _begun_run(arguments: argparse.Namespace) -> RunIdentity | None:
    """The run that --model_dir holds: what the command line leaves out stays as it is there."""
    record = read_run(arguments.model_dir) if arguments.model_dir else None
    return record.identity if record else None


def _initial_weights(arguments: argparse.Namespace, begun: RunIdentity | None) -> InitialWeights | None:
    path = arguments.initialize_from or (begun.initial_weights if begun else None)
    if arguments.duplicate_layers and not path:
        raise UserError("--duplicate_layers needs --initialize_from, and it was not given: leave the flag out.")
    return InitialWeights(path, arguments.duplicate_layers) if path else None


def _intent(arguments: argparse.Namespace) -> doctor.Intent:
    return doctor.Intent(
        model_config=lambda: _model_config(arguments, _begun_run(arguments)),
        train_records=lambda: _train_records(arguments),
        val_records=lambda: _val_records(arguments),
        train_config=lambda train_records: _train_config(arguments, train_records, _begun_run(arguments)),
        cadence=lambda: Cadence(**given_options(arguments, Cadence)),
        model_dir=arguments.model_dir,
        tpu=arguments.tpu,
        watching=lambda: _watching(arguments),
        device_kind=getattr(arguments, "device_kind", device_kind_of(arguments.tpu)),
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


def _model_config(arguments: argparse.Namespace, begun: RunIdentity | None) -> GPTConfig:
    name_or_path = arguments.config_path or arguments.model_type
    if not name_or_path and begun:
        return _with_seq_len(begun.model_config, arguments.seq_len)
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
    return _with_seq_len(config, arguments.seq_len)


def _with_seq_len(config: GPTConfig, seq_len: int | None) -> GPTConfig:
    return config if seq_len is None else dataclasses.replace(config, seq_len=seq_len)


def _train_config(arguments: argparse.Namespace, train_records: RecordSet, begun: RunIdentity | None) -> TrainConfig:
    given = given_options(arguments, TrainConfig)
    if begun:
        settings = {**begun.train_config.to_dict(), **given}
        del settings["total_steps"]
    else:
        settings = dict(given)
        settings.setdefault("learning_rate", DEFAULT_LEARNING_RATE[given.get("optimizer", TrainConfig.optimizer)])
        settings.setdefault(
            "compute_dtype", "bfloat16" if arguments.tpu or arguments.rehearse else TrainConfig.compute_dtype
        )
    batch_size = settings.get("batch_size", TrainConfig.batch_size)
    if batch_size < 1:
        raise UserError(f"--batch_size must be at least 1, received {batch_size}.")
    return TrainConfig(total_steps=_total_steps(arguments, train_records, batch_size, begun), **settings)


def _total_steps(
    arguments: argparse.Namespace, train_records: RecordSet, batch_size: int, begun: RunIdentity | None
) -> int:
    if arguments.steps is not None:
        if arguments.steps < 1:
            raise UserError(f"--steps must be at least 1, received {arguments.steps}.")
        return arguments.steps
    if begun and arguments.epochs is None:
        return begun.train_config.total_steps
    return steps_of_epochs(1.0 if arguments.epochs is None else arguments.epochs, train_records, batch_size)


if __name__ == "__main__":
    cli.run(main)
