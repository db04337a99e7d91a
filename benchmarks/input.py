"""Time the input pipeline alone, over records that it writes first, beside a bare tf.data chain: figures on stdout."""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from algpt2 import cli
from algpt2.data.input_pipeline import train_batches
from algpt2.data.record_set import RecordSet
from algpt2.data.tfrecords import parse_records, write_shard

VOCAB_SIZE = 50257
SHARDS = 4


def main(argv: Sequence[str]) -> int:
    """Prints tokens per second of both, medians of turns, and the ratio as the median of pairs."""
    arguments = parse(argv)
    with tempfile.TemporaryDirectory() as folder:
        record_set = _write(folder, arguments.records // SHARDS, arguments.seq_len)
        streams = [_ours(record_set, arguments.batch_size), _bare_chain(record_set, arguments.batch_size)]
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


def _write(folder: str, records_per_shard: int, seq_len: int) -> RecordSet:
    rng = np.random.default_rng(0)
    files = tuple(str(Path(folder, f"{i}.tfrecord")) for i in range(SHARDS))
    shards = []
    for file in files:
        records = (rng.integers(VOCAB_SIZE, size=seq_len + 1) for _ in range(records_per_shard))
        shards.append(write_shard(file, records, np.ones(VOCAB_SIZE, np.int64)))
    return RecordSet(files, tuple(shards), folder, seq_len, VOCAB_SIZE, VOCAB_SIZE - 1, tokenizer_sha256="")


def _ours(record_set: RecordSet, batch_size: int) -> Iterator[tf.Tensor]:
    context = tf.distribute.InputContext(1, 0, 1)
    return iter(train_batches(record_set, batch_size, seed=0, first_batch=0, context=context))


def _bare_chain(record_set: RecordSet, batch_size: int) -> Iterator[tf.Tensor]:
    """Reads and parses the same records without end: no shuffling, no checks of the ids."""
    shards = tf.data.Dataset.from_tensor_slices(list(record_set.files)).repeat()
    records = shards.interleave(
        tf.data.TFRecordDataset, cycle_length=SHARDS, block_length=16, num_parallel_calls=tf.data.AUTOTUNE
    )
    batches = records.batch(batch_size, drop_remainder=True)
    parsed = batches.map(
        lambda serialized: parse_records(serialized, record_set.seq_len, record_set.vocab_size),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return iter(parsed.prefetch(tf.data.AUTOTUNE))


def _seconds(stream: Iterator[tf.Tensor], batches: int) -> float:
    start = time.perf_counter()
    for _ in range(batches):
        next(stream)
    return time.perf_counter() - start


if __name__ == "__main__":
    cli.run(main)
