"""Time our scoring of a text against the loop of Hugging Face's documentation (PyTorch), in turn.

A table goes to stderr, the same figures as JSON to stdout. Both load the same GPT-2 with random weights.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from algpt2 import cli
from algpt2.config.model import GPTConfig
from algpt2.config.model_files import load_config
from algpt2.devices import wheels
from algpt2.evaluation.windows import windows
from algpt2.text import documents
from benchmarks.scoring_contenders import CONTENDERS, Text
from benchmarks.turns import Contender, Turn


def main(argv: Sequence[str]) -> int:
    """Prints tokens per second of both, our advantage without and with compilation, and the peaks of memory."""
    arguments = parse(argv)
    wheels.load_tensorflow()
    config = load_config(arguments.config_path)
    with tempfile.TemporaryDirectory() as folder:
        text = Text(folder, _write_checkpoint(arguments, config, folder), arguments.stride, arguments.batch_size)
        n_windows = sum(1 for _ in windows(text.ids, config.seq_len, text.stride))
        turn_windows = min(arguments.windows, n_windows)
        contenders = [Contender(name, make, text, first_units=turn_windows) for name, make in CONTENDERS.items()]
        rounds = [[one.take_turn(turn_windows) for one in contenders] for _ in range(arguments.rounds)]
        whole_text = contenders[0].take_turn(n_windows).seconds if arguments.whole_text else None
        rows = [_row(one, [turns[i] for turns in rounds], turn_windows, n_windows) for i, one in enumerate(contenders)]
        for contender in contenders:
            contender.close()
    result = {
        "shape": f"{arguments.config_path}, window {config.seq_len}, stride {text.stride}, {n_windows} windows",
        "ours_is_faster_by": statistics.median(theirs.seconds / ours.seconds for ours, theirs in rounds),
        "with_compilation_by": rows[1]["seconds_of_whole_text"] / rows[0]["seconds_of_whole_text"],
        "seconds_of_our_whole_text_when_compiled": whole_text,
        "rows": rows,
    }
    _print_table(result)
    cli.print_json(result)
    return cli.EXIT_OK


def _write_checkpoint(arguments: argparse.Namespace, config: GPTConfig, folder: str) -> np.ndarray:
    """Writes a GPT-2 with random weights into a folder; returns the ids of the text under Hugging Face's protocol."""
    from algpt2.checkpoints.folder import CheckpointState
    from algpt2.checkpoints.save_load import Snapshot, save_checkpoint
    from algpt2.model.gpt import GPT
    from algpt2.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(arguments.tokenizer)
    parameters = {name: p.numpy() for name, p in GPT(config).named_parameters().items()}
    state = CheckpointState(0, 0, {}, "", 1)
    save_checkpoint(folder, Snapshot(config, parameters, {}), state, tokenizer.to_json().encode())
    return np.asarray(tokenizer.encode(documents.read_text_file(arguments.data)), np.int32)


def _row(contender: Contender, turns: Sequence[Turn], turn_windows: int, n_windows: int) -> dict[str, Any]:
    """Returns what a contender took. The time of the whole text is reckoned: its first turn and as many as follow."""
    seconds_per_window = statistics.median(turn.seconds for turn in turns) / turn_windows
    return {
        "contender": contender.name,
        "nats_per_token": turns[0].result,
        "seconds_per_window": seconds_per_window,
        "seconds_of_first_turn": contender.seconds_to_first,
        "seconds_of_whole_text": contender.seconds_to_first + (n_windows - turn_windows) * seconds_per_window,
        "peak_gigabytes": contender.peak_gigabytes_so_far(),
    }


def _print_table(result: dict[str, Any]) -> None:
    print(result["shape"], file=sys.stderr)
    print(f"{'':20}{'nats':>10}{'s/window':>10}{'whole, s':>10}{'peak, GB':>10}", file=sys.stderr)
    for row in result["rows"]:
        figures = (row[key] for key in ("nats_per_token", "seconds_per_window", "seconds_of_whole_text"))
        print(
            "{:20}{:10.4f}{:10.3f}{:10.1f}{:10.2f}".format(row["contender"], *figures, row["peak_gigabytes"]),
            file=sys.stderr,
        )
    ratios = result["ours_is_faster_by"], result["with_compilation_by"]
    print("ours is faster by {:.2f}, with start and compilation by {:.2f}".format(*ratios), file=sys.stderr)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    parser.add_argument("--config_path", default="gpt2", help="a GPT-2 preset or a config file")
    parser.add_argument("--tokenizer", required=True, help="a folder with GPT-2's tokenizer")
    parser.add_argument("--data", required=True, help="a text, such as WikiText's wiki.test.raw")
    parser.add_argument("--stride", type=int, default=512, help="positions between windows, for both")
    parser.add_argument("--batch_size", type=int, default=8, help="windows of one of our passes")
    parser.add_argument("--windows", type=int, default=8, help="windows of one turn")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contender")
    parser.add_argument("--whole_text", action="store_true", help="score all of it by ours at the end, for its peak")
    return parser


if __name__ == "__main__":
    cli.run(main)
