"""Time the input pipeline alone, over records that it writes first, beside a bare tf.data chain: figures on stdout.

Packed records, documents that are packed on the fly, and the bare chain over packed records take turns in one process.
Documents are read a window ahead, so part of a turn's reading falls behind its last batch. The processor time of a turn
therefore ends only when the process has come to rest; on a busy machine it is the better measure too.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from algpt2 import cli
from algpt2.devices import wheels

SHARDS = 4
LEAST_WORK = 0.005  # of a second's processor time; what Python does while it sleeps is less


class Turn(NamedTuple):
    """What a number of batches took: seconds, and seconds of all processors until the process was at rest."""

    seconds: float
    cpu_seconds: float


def main(argv: Sequence[str]) -> int:
    """Prints tokens per second of each, medians of turns, and ratios as medians of the turns of two."""
    arguments = parse(argv)
    wheels.load_tensorflow()

    from benchmarks.input_streams import bare_batches, shuffled_batches, write_documents, write_records

    with tempfile.TemporaryDirectory() as folder:
        packed = write_records(folder, SHARDS, arguments.records // SHARDS, arguments.seq_len)
        documents = write_documents(folder, SHARDS, packed.records * arguments.seq_len // SHARDS, arguments.seq_len)
        streams = {
            "packed": shuffled_batches(packed, arguments.batch_size),
            "documents": shuffled_batches(documents, arguments.batch_size),
            "bare": bare_batches(packed, arguments.batch_size),
        }
        for stream in streams.values():
            next(stream)
            _wait_for_rest(arguments.rest_seconds)
        batches = packed.records // arguments.batch_size
        turns = [
            {name: _turn(stream, batches, arguments.rest_seconds) for name, stream in streams.items()}
            for _ in range(arguments.rounds)
        ]
    tokens = batches * arguments.batch_size * arguments.seq_len
    speeds = {name: tokens / statistics.median(turn[name].seconds for turn in turns) for name in streams}
    print(", ".join(f"{name} {speed / 1e6:.1f} M tokens/s" for name, speed in speeds.items()), file=sys.stderr)
    cli.print_json(
        {
            "tokens_per_second": speeds["packed"],
            "documents_tokens_per_second": speeds["documents"],
            "bare_tokens_per_second": speeds["bare"],
            "ratio_to_bare": _ratio(turns, "bare", "packed"),
            "ratio_of_documents_to_packed": _ratio(turns, "packed", "documents"),
            "cpu_nanoseconds_a_token": {
                name: statistics.median(turn[name].cpu_seconds for turn in turns) / tokens * 1e9 for name in streams
            },
        }
    )
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    parser.add_argument("--records", type=int, default=80_000, help=f"records to write, in {SHARDS} shards")
    parser.add_argument("--seq_len", type=int, default=1024, help="target tokens of a record")
    parser.add_argument("--batch_size", type=int, default=32, help="records of a batch")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each, in turn")
    parser.add_argument("--rest_seconds", type=float, default=2.0, help="without work, after which a turn is at rest")
    return parser


def _turn(stream: Iterator[Any], batches: int, rest_seconds: float) -> Turn:
    cpu_start, start = time.process_time(), time.perf_counter()
    for _ in range(batches):
        next(stream)
    seconds = time.perf_counter() - start
    _wait_for_rest(rest_seconds)
    return Turn(seconds, time.process_time() - cpu_start)


def _wait_for_rest(seconds: float) -> None:
    """Waits until the process has done nothing for so long; 0 waits for nothing."""
    worked = seconds
    while worked > LEAST_WORK * seconds:
        before = time.process_time()
        time.sleep(seconds)
        worked = time.process_time() - before


def _ratio(turns: Sequence[dict[str, Turn]], one: str, other: str) -> float:
    """Returns the median over the turns of how many times as long one took as another."""
    return statistics.median(turn[one].seconds / turn[other].seconds for turn in turns)


if __name__ == "__main__":
    cli.run(main)
