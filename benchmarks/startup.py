"""Time from nothing to the first training step, and the memory it takes: a table on stderr, the figures on stdout."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence

from algpt2 import cli
from algpt2.config.model import GPTConfig, preset_names
from benchmarks.contenders import CONTENDERS, training
from benchmarks.turns import Contender


def main(argv: Sequence[str]) -> int:
    """Starts each contender with each model in a process of its own, one after the other."""
    arguments = parse(argv)
    rows = []
    print(f"batch {arguments.batch_size} x {arguments.seq_len}, dropout {arguments.dropout}", file=sys.stderr)
    print(f"{'':24}{'':24}{'first step, s':>15}{'peak, GB':>10}", file=sys.stderr)
    for name in arguments.presets:
        config = dataclasses.replace(GPTConfig.from_preset(name), dropout=arguments.dropout, seq_len=arguments.seq_len)
        for contender in arguments.contender:
            started = Contender(contender, training, contender, config, arguments.batch_size)
            started.close()
            row = (name, contender, started.seconds_to_first, started.peak_gigabytes)
            print("{:24}{:24}{:15.1f}{:10.2f}".format(*row), file=sys.stderr)
            rows.append(dict(zip(("preset", "contender", "seconds_to_first_step", "peak_gigabytes"), row, strict=True)))
    cli.print_json(rows)
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    parser.add_argument("--presets", nargs="+", choices=preset_names(), default=["gpt2", "algpt2-xl"], help="models")
    ours = ["ours", "ours_remat_block"]
    parser.add_argument("--contender", nargs="+", choices=list(CONTENDERS), default=ours, help="who starts")
    parser.add_argument("--batch_size", type=int, default=1, help="sequences of the step")
    parser.add_argument("--seq_len", type=int, default=256, help="tokens of a sequence")
    parser.add_argument("--dropout", type=float, default=0.1, help="instead of the models' own")
    return parser


if __name__ == "__main__":
    cli.run(main)
