"""The streams of batches that `benchmarks/input.py` times, and the records that they read."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from algpt2.config.records import DOCUMENTS_FORMAT
from algpt2.records.document_writing import write_document_shard
from algpt2.records.input_pipeline import train_batches
from algpt2.records.record_set import RecordSet
from algpt2.records.shard_writing import write_shard
from algpt2.records.tfrecords import parse_records

VOCAB_SIZE = 50257
# Of the logarithms of the documents' lengths: a median of 330 ids and a mean of 600, as of web pages.
LENGTH_MEAN, LENGTH_DEVIATION = 5.8, 1.1


def write_records(folder: str, n_shards: int, records_per_shard: int, seq_len: int) -> RecordSet:
    """Writes shards of random token ids, and returns them as training would open them."""
    rng = np.random.default_rng(0)
    files = tuple(str(Path(folder, f"{i}.tfrecord")) for i in range(n_shards))
    shards = []
    for file in files:
        records = rng.integers(VOCAB_SIZE, size=(records_per_shard, seq_len + 1))
        shards.append(write_shard(file, [records], np.ones(VOCAB_SIZE, np.int64)))
    return RecordSet(files, tuple(shards), folder, seq_len, VOCAB_SIZE, VOCAB_SIZE - 1, tokenizer_sha256="")


def write_documents(folder: str, n_shards: int, tokens_per_shard: int, seq_len: int) -> RecordSet:
    """Writes shards of documents of random ids, one a record, with at least so many ids, and returns them opened."""
    rng = np.random.default_rng(0)
    files = tuple(str(Path(folder, f"documents-{i}.tfrecord")) for i in range(n_shards))
    shards = []
    for file in files:
        lengths = np.empty(0, np.int64)
        while lengths.sum() < tokens_per_shard:
            lengths = np.append(lengths, rng.lognormal(LENGTH_MEAN, LENGTH_DEVIATION, 1024).astype(np.int64) + 1)
        ids = rng.integers(VOCAB_SIZE - 1, size=lengths.sum())
        ids[np.cumsum(lengths) - lengths] = VOCAB_SIZE - 1
        shards.append(write_document_shard(file, [(lengths, ids)], np.ones(VOCAB_SIZE, np.int64)))
    return RecordSet(
        *(files, tuple(shards), folder, seq_len, VOCAB_SIZE, VOCAB_SIZE - 1),
        tokenizer_sha256="",
        record_format=DOCUMENTS_FORMAT,
    )


def shuffled_batches(record_set: RecordSet, batch_size: int) -> Iterator[tf.Tensor]:
    """Yields the batches of training, each (batch, seq_len + 1) int32."""
    context = tf.distribute.InputContext(1, 0, 1)
    return iter(train_batches(record_set, batch_size, seed=0, first_batch=0, context=context))


def bare_batches(record_set: RecordSet, batch_size: int) -> Iterator[tf.Tensor]:
    """Yields batches of the same records without end, neither shuffled nor checked for ids beyond the vocabulary."""
    shards = tf.data.Dataset.from_tensor_slices(list(record_set.files)).repeat()
    records = shards.interleave(
        tf.data.TFRecordDataset,
        cycle_length=len(record_set.files),
        block_length=16,
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    batches = records.batch(batch_size, drop_remainder=True)
    parsed = batches.map(
        lambda serialized: parse_records(serialized, record_set.seq_len, record_set.vocab_size),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return iter(parsed.prefetch(tf.data.AUTOTUNE))
