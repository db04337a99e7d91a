"""Time a run that logs and saves often against one that does neither, in turn: what watching and checkpoints cost."""

import argparse
import dataclasses
import statistics
import tempfile
from collections.abc import Sequence

from algpt2 import cli
from algpt2.config.cadence import Cadence
from algpt2.config.model_files import load_config
from algpt2.config.tracking import TrackingConfig
from algpt2.config.training import TrainConfig
from algpt2.devices import wheels
from algpt2.records.record_set import open_record_set
from algpt2.runs.plan import Run


def main(argv: Sequence[str]) -> int:
    """Prints the time of a step, everything included, with and without, and the ratio as the median of pairs."""
    arguments = parse(argv)
    wheels.load_tensorflow()
    bare = Run(
        model_config=load_config(arguments.config_path),
        train_config=TrainConfig(total_steps=arguments.steps, batch_size=arguments.batch_size),
        cadence=Cadence(log_every_steps=10**9, save_every_steps=10**9, steps_per_loop=10),
        train_records=open_record_set([arguments.train_path], "train"),
        val_records=None,
        model_dir=None,
        tracking=TrackingConfig(tensorboard=False),
    )
    cadence = Cadence(log_every_steps=10, save_every_steps=arguments.save_every_steps, steps_per_loop=10)
    watched = dataclasses.replace(bare, cadence=cadence, tracking=TrackingConfig())
    turns = [(_seconds_per_step(watched), _seconds_per_step(bare)) for _ in range(arguments.rounds)]
    cli.print_json(
        {
            "watched_seconds_per_step": statistics.median(turn[0] for turn in turns),
            "bare_seconds_per_step": statistics.median(turn[1] for turn in turns),
            "ratio": statistics.median(watched / bare for watched, bare in turns),
        }
    )
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    parser.add_argument("--train_path", required=True, metavar="DIR", help="folder of make_tfrecords.py")
    parser.add_argument("--config_path", default="gpt2-tiny", help="preset (default: gpt2-tiny)")
    parser.add_argument("--batch_size", type=int, default=16, help="sequences a step (default: 16)")
    parser.add_argument("--steps", type=int, default=200, help="steps of each run (default: 200)")
    parser.add_argument("--save_every_steps", type=int, default=50, help="steps between checkpoints (default: 50)")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs (default: 3)")
    return parser


def _seconds_per_step(run: Run) -> float:
    """Returns the seconds of a step, with everything that happens between the first graph call and the last step."""
    import tensorflow as tf

    from algpt2.training.loop import train

    with tempfile.TemporaryDirectory() as folder:
        result = train(dataclasses.replace(run, model_dir=f"{folder}/run"), tf.distribute.get_strategy())
    return run.tokens_per_step / result["tokens_per_second"] / result["step_fraction"]


if __name__ == "__main__":
    cli.run(main)
