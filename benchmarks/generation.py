"""Time our generation against `transformers.generate` with its cache and against ours without one, in turn.

A table goes to stderr, the same figures as JSON to stdout. All have the same GPT-2 with random weights.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from algpt2 import cli
from algpt2.config.model_files import load_config
from benchmarks.generation_contenders import CONTENDERS, Task, ours_uncached, write_weights
from benchmarks.turns import Contender


def main(argv: Sequence[str]) -> int:
    """Prints tokens per second of each contender for each batch size, and our advantage as the median of pairs."""
    arguments = parse(argv)
    config = load_config(arguments.config_path)
    with tempfile.TemporaryDirectory() as folder:
        write_weights(config, folder)
        rows = []
        for batch_size in arguments.batch_size:
            shape = (batch_size, arguments.prompt_tokens)
            prompts = np.random.default_rng(0).integers(config.vocab_size - 1, size=shape)
            rows += _rows(Task(config, folder, prompts, arguments.new_tokens), arguments)
    shape = f"{arguments.config_path}, {arguments.new_tokens} new tokens after {arguments.prompt_tokens}"
    print(f"{shape}, {arguments.rounds} rounds in turn", file=sys.stderr)
    print(f"{'':16}{'batch':>6}{'tokens/s':>10}{'ours is faster by':>20}{'peak, GB':>10}", file=sys.stderr)
    for row in rows:
        print("{:16}{:6d}{:10.1f}{:20.2f}{:10.2f}".format(*list(row.values())[:5]), file=sys.stderr)
    cli.print_json({"shape": shape, "rows": rows})
    return cli.EXIT_OK


def _rows(task: Task, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns a row for each contender, of which the last makes fewer tokens, because each takes so long."""
    units = dict.fromkeys(CONTENDERS, task.new_tokens) | {"ours_uncached": arguments.uncached_tokens}
    makes = {**CONTENDERS, "ours_uncached": ours_uncached}
    contenders = [Contender(name, makes[name], task) for name in makes]
    rounds = [[one.take_turn(units[one.name]) for one in contenders] for _ in range(arguments.rounds)]
    seconds = [
        [turn.seconds / units[one.name] for turn, one in zip(turns, contenders, strict=True)] for turns in rounds
    ]
    rows = [
        {
            "contender": one.name,
            "batch_size": len(task.prompts),
            "tokens_per_second": len(task.prompts) / statistics.median(turns[i] for turns in seconds),
            "ours_is_faster_by": statistics.median(turns[i] / turns[0] for turns in seconds),
            "peak_gigabytes": one.peak_gigabytes_so_far(),
            "sum_of_ids": rounds[0][i].result,
        }
        for i, one in enumerate(contenders)
    ]
    for contender in contenders:
        contender.close()
    return rows


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    parser.add_argument("--config_path", default="gpt2", help="a GPT-2 preset or a config file")
    parser.add_argument("--batch_size", type=int, nargs="+", default=[1, 4], help="texts that are made at once")
    parser.add_argument("--prompt_tokens", type=int, default=32, help="tokens of each prompt")
    parser.add_argument("--new_tokens", type=int, default=512, help="tokens that are made of each prompt")
    parser.add_argument("--uncached_tokens", type=int, default=2, help="tokens of a turn without a cache")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender")
    return parser


if __name__ == "__main__":
    cli.run(main)
