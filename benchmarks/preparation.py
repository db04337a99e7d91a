"""Time the preparation of records beside the bare encoder and a script on Hugging Face's datasets: ratios on stdout.

All do the same documents on all cores, one after the other in each round. The bare encoder only makes ids, of texts
that are in memory. Ratios are medians over the rounds.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

from algpt2 import cli
from algpt2.progress import hidden_bars
from benchmarks.preparation_contenders import Task, bare_encoder, datasets_script, ours, ours_with_gigatoken
from benchmarks.turns import Turn


def main(argv: Sequence[str]) -> int:
    """Prints each one's seconds and the tokens a second of ours, and how many times ours is as fast as each other."""
    arguments = parse(argv)
    task = Task(arguments.input, arguments.tokenizer, arguments.seq_len)
    contenders = {"ours": ours, "ours_with_gigatoken": ours_with_gigatoken, "bare_encoder": bare_encoder(task)}
    if not arguments.no_datasets:
        contenders["datasets"] = datasets_script
    turns = [{name: _turn(contender, task) for name, contender in contenders.items()} for _ in range(arguments.rounds)]
    seconds = {name: statistics.median(turn[name].seconds for turn in turns) for name in contenders}
    tokens = turns[0]["ours"].result
    times_as_fast = {
        f"{one}_as_fast_as_{other}": statistics.median(turn[other].seconds / turn[one].seconds for turn in turns)
        for one in ("ours", "ours_with_gigatoken")
        for other in contenders
        if other != one
    }
    for name, value in seconds.items():
        print(f"{name:20s} {value:7.2f} s  {tokens / value / 1e6:5.2f} M tokens/s", file=sys.stderr)
    cli.print_json({"tokens": tokens, "seconds": seconds, **times_as_fast})
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    parser.add_argument("--input", required=True, metavar="FILE", help="JSON lines with the key text, on disk")
    parser.add_argument("--tokenizer", required=True, metavar="DIR", help="made by train_tokenizer.py")
    parser.add_argument("--seq_len", type=int, default=1024, help="target tokens of a record")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each")
    parser.add_argument("--no_datasets", action="store_true", help="leave out the script on datasets")
    return parser


def _turn(contender: Callable[[Task, str], int], task: Task) -> Turn:
    with tempfile.TemporaryDirectory() as folder, hidden_bars():
        start = time.perf_counter()
        result = contender(task, folder)
        return Turn(time.perf_counter() - start, result)


if __name__ == "__main__":
    cli.run(main)
