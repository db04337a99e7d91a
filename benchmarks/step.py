"""Time our training step against keras-hub's and PyTorch's, in turn: a table on stderr, the same figures on stdout."""

import argparse
import dataclasses
import statistics
import sys
from collections.abc import Sequence

from algpt2 import cli
from algpt2.config.model_files import load_config
from benchmarks.contenders import CONTENDERS, training
from benchmarks.turns import Contender

# The same work: none computes anything twice, all in float32.
PLAIN = ("ours", "keras_hub", "torch_eager", "torch_compile")


def main(argv: Sequence[str]) -> int:
    """Prints tokens per second of each contender, and the ratio of the first to it, as the median of pairs."""
    arguments = parse(argv)
    config = load_config(arguments.config_path)
    config = dataclasses.replace(config, dropout=arguments.dropout, seq_len=arguments.seq_len or config.seq_len)
    names = arguments.contender or [name for name in PLAIN if name != "keras_hub" or config.model_type == "gpt2"]
    contenders = [Contender(name, training, name, config, arguments.batch_size) for name in names]
    rounds = []
    for _ in range(arguments.rounds):
        rounds.append([one.take_turn(arguments.steps).seconds / arguments.steps for one in contenders])
    tokens = arguments.batch_size * config.seq_len
    rows = [
        {
            "contender": contender.name,
            "tokens_per_second": tokens / statistics.median(turn[i] for turn in rounds),
            "first_is_faster_by": statistics.median(turn[i] / turn[0] for turn in rounds),
            "seconds_to_first_step": contender.seconds_to_first,
            "peak_gigabytes": contender.peak_gigabytes,
        }
        for i, contender in enumerate(contenders)
    ]
    for contender in contenders:
        contender.close()
    shape = f"{arguments.config_path}, batch {arguments.batch_size} x {config.seq_len}, dropout {arguments.dropout}"
    print(f"{shape}, {arguments.rounds} rounds of {arguments.steps} steps in turn", file=sys.stderr)
    print(f"{'':24}{'tokens/s':>10}{'ratio':>8}{'first step, s':>15}{'peak, GB':>10}", file=sys.stderr)
    for row in rows:
        name, *figures = row.values()
        print("{:24}{:10.0f}{:8.2f}{:15.1f}{:10.2f}".format(name, *figures), file=sys.stderr)
    cli.print_json({"shape": shape, "rows": rows})
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    parser.add_argument("--config_path", default="gpt2", help="a preset or a config file")
    parser.add_argument("--dropout", type=float, default=0.0, help="of all contenders, instead of the config's")
    parser.add_argument("--batch_size", type=int, default=4, help="sequences of a step")
    parser.add_argument("--seq_len", type=int, default=None, help="tokens of a sequence (the model's, if not given)")
    parser.add_argument("--steps", type=int, default=1, help="steps of one turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender")
    parser.add_argument(
        "--contender", nargs="+", choices=list(CONTENDERS), help="who runs; those in float32, if not given"
    )
    return parser


if __name__ == "__main__":
    cli.run(main)
