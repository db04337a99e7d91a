"""Time the input pipeline alone, over records that it writes first, beside a bare tf.data chain: figures on stdout."""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

from algpt2 import cli
from algpt2.devices import wheels

SHARDS = 4


def main(argv: Sequence[str]) -> int:
    """Prints tokens per second of both, medians of turns, and the ratio as the median of pairs."""
    arguments = parse(argv)
    wheels.load_tensorflow()

    from benchmarks.input_streams import bare_batches, shuffled_batches, write_records

    with tempfile.TemporaryDirectory() as folder:
        record_set = write_records(folder, SHARDS, arguments.records // SHARDS, arguments.seq_len)
        streams = [stream(record_set, arguments.batch_size) for stream in (shuffled_batches, bare_batches)]
        for stream in streams:
            next(stream)
        batches = record_set.records // arguments.batch_size
        turns = [[_seconds(stream, batches) for stream in streams] for _ in range(arguments.rounds)]
    tokens = batches * arguments.batch_size * arguments.seq_len
    ours, bare = (tokens / statistics.median(turn[i] for turn in turns) for i in (0, 1))
    ratio = statistics.median(bare_seconds / seconds for seconds, bare_seconds in turns)
    print(f"train_batches {ours / 1e6:.1f} M tokens/s, bare chain {bare / 1e6:.1f} M tokens/s", file=sys.stderr)
    cli.print_json({"tokens_per_second": ours, "bare_tokens_per_second": bare, "ratio_to_bare": ratio})
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
    return parser


def _seconds(stream: Iterator[Any], batches: int) -> float:
    start = time.perf_counter()
    for _ in range(batches):
        next(stream)
    return time.perf_counter() - start


if __name__ == "__main__":
    cli.run(main)
