"""Train GPT-2 or ALGPT-2 on TFRecords: shards in, checkpoints out. The same command again resumes the run."""

from algpt2 import interrupts

if __name__ == "__main__":
    interrupts.begin()

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import logging

from algpt2 import cli
from algpt2.config.cadence import Cadence
from algpt2.config.model import preset_names
from algpt2.config.model_files import MODEL_TYPES
from algpt2.config.options import add_options
from algpt2.config.tracking import TrackingConfig
from algpt2.config.training import TrainConfig
from algpt2.devices import wheels
from algpt2.errors import UserError
from algpt2.preflight import doctor, rehearsal
from algpt2.runs import vertex_ai
from algpt2.runs.plan import Run
from algpt2.runs.recipes import with_recipe
from algpt2.runs.request import RunRequest
from algpt2.runs.rewind import rewind

RECIPES = str(Path(__file__).resolve().parent / "recipes")


def main(argv: Sequence[str]) -> int:
    """Trains, or does what another flag asks for instead, and prints the outcome."""
    arguments = parse(argv)
    if arguments.doctor:
        return doctor.report(doctor.examine(RunRequest(arguments)))
    if arguments.rewind_to is not None:
        result = _rewind(arguments)
    elif arguments.rehearse:
        return _rehearse(arguments)
    elif arguments.dry_run:
        result = _planned_run(arguments).describe()
    else:
        result = _train(arguments)
    cli.print_json(result)
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    parser = build_parser()
    return vertex_ai.with_folders(parser.parse_args(with_recipe(argv, parser, RECIPES)), os.environ)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    _add_data_flags(parser)
    _add_run_flags(parser)
    add_options(parser, TrainConfig)
    add_options(parser, Cadence)
    add_options(parser, TrackingConfig)
    return parser


def _add_data_flags(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group("data and model")
    recipe_help = "flags of a published run, a name in recipes/ or a TOML file; those given beside it win"
    data.add_argument("--recipe", metavar="NAME|TOML", help=recipe_help)
    path_help = "folders made by data_tools/make_tfrecords.py, or shards or patterns of shards; disk or gs://"
    data.add_argument("--train_path", nargs="+", metavar="PATH", help=path_help)
    data.add_argument("--val_path", nargs="+", default=[], metavar="PATH", help=f"{path_help} (default: no validation)")
    data.add_argument("--train_len", type=int, help="records in --train_path; an error if the manifest disagrees")
    data.add_argument("--model_type", choices=MODEL_TYPES, help="an error if --config_path is of the other type")
    data.add_argument(
        "--config_path",
        metavar="NAME|JSON|DIR",
        help=f"a preset ({', '.join(preset_names())}), a JSON file, or a checkpoint (default: --model_type)",
    )
    data.add_argument("--seq_len", type=int, help="positions of the model (default: the config's)")
    vocab_size_help = "rows of the token table, at least as many as the tokenizer has ids (default: the config's)"
    data.add_argument("--vocab_size", type=int, help=vocab_size_help)
    data.add_argument(
        "--document_mask",
        action="store_true",
        help="let a token see only its own document: sets the model's document_eos_id to that of --train_path",
    )
    data.add_argument(
        "--model_dir",
        metavar="DIR",
        help="the run's folder, on disk or gs://; holding this run, it resumes (default: the environment's "
        "AIP_CHECKPOINT_DIR, else a new one, runs/CONFIG-TIME)",
    )
    data.add_argument(
        "--tensorboard_dir",
        metavar="DIR",
        help="the folder of this run's files for TensorBoard, on disk or gs:// (default: the environment's "
        "AIP_TENSORBOARD_LOG_DIR, else MODEL_DIR/tensorboard)",
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
        "--rehearse",
        metavar="POD",
        help="compile the step for a TPU like v3-128 without one: its memory, its time at the roofline; and stop",
    )
    length = run.add_mutually_exclusive_group()
    length.add_argument("--epochs", type=float, help="passes over the records (default: the run's, or 1)")
    length.add_argument("--steps", type=int, help="optimizer steps, instead of --epochs")


def _rewind(arguments: argparse.Namespace) -> dict[str, Any]:
    if not arguments.model_dir:
        raise UserError("--rewind_to needs --model_dir, the folder of a run, and it was not given.")
    return rewind(arguments.model_dir, arguments.rewind_to)


def _rehearse(arguments: argparse.Namespace) -> int:
    wheels.require_tensorflow()
    step = RunRequest(arguments).step()
    return rehearsal.report(rehearsal.rehearse(*step, arguments.rehearse))


def _train(arguments: argparse.Namespace) -> dict[str, Any]:
    wheels.require_tensorflow()
    run = _planned_run(arguments)
    if not arguments.model_dir:
        logging.info("the run is in %s: add --model_dir %s to this command to go on with it", *[run.model_dir] * 2)
    wheels.load_tensorflow()

    from algpt2.devices import strategies
    from algpt2.training.loop import train

    strategies.require_readable_by_tpu(arguments.tpu, run.data_paths())
    return train(run, strategies.create_strategy(arguments.tpu))


def _planned_run(arguments: argparse.Namespace) -> Run:
    wheels.require_tensorflow()
    return RunRequest(arguments).run()


if __name__ == "__main__":
    cli.run(main)
