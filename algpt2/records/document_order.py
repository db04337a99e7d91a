"""Blocks of documents: what is read at once when each epoch puts the documents into another order.

A block is a run of documents that follow one another in a shard. An epoch takes the blocks in a random order, so that
each read is of some size, on a disk and on `gs://`, and yet documents from everywhere come together.
"""

from typing import NamedTuple

import numpy as np

from algpt2.records.document_lengths import read_lengths
from algpt2.records.record_bytes import frame_sizes, id_dtype
from algpt2.records.record_set import RecordSet

BLOCK_TOKENS = 1 << 16
MOST_BLOCKS = 1 << 18


class Blocks(NamedTuple):
    """Blocks, in the order of the shards; int64 (blocks,) each.

    Attributes:
      shard: the number of the shard that a block lies in.
      first_byte: where it begins there.
      size_bytes: of its frames.
      first_document: the number of its first document, counted over all shards.
      documents: how many it has.
      tokens: how many ids they have, EOS counted.
    """

    shard: np.ndarray
    first_byte: np.ndarray
    size_bytes: np.ndarray
    first_document: np.ndarray
    documents: np.ndarray
    tokens: np.ndarray


def blocks_of(record_set: RecordSet) -> Blocks:
    """Returns the blocks of shards of documents, from the files of their lengths.

    A block has BLOCK_TOKENS ids and its last document's rest, or more where there would be more than about MOST_BLOCKS.

    Raises:
      UserError: a file of lengths is missing or damaged.
    """
    block_tokens = max(BLOCK_TOKENS, sum(shard.tokens for shard in record_set.shards) // MOST_BLOCKS)
    itemsize = id_dtype(record_set.vocab_size).itemsize
    parts, first_document = [], 0
    for number, (file, shard) in enumerate(zip(record_set.files, record_set.shards, strict=True)):
        lengths = read_lengths(file, shard).astype(np.int64)
        parts.append(_of_shard(number, first_document, lengths, frame_sizes(lengths * itemsize), block_tokens))
        first_document += shard.records
    return Blocks(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _of_shard(
    shard: int, first_document: int, lengths: np.ndarray, frame_bytes: np.ndarray, block_tokens: int
) -> Blocks:
    ends, end_bytes = np.cumsum(lengths), np.cumsum(frame_bytes)
    firsts = np.flatnonzero(np.diff((ends - lengths) // block_tokens, prepend=-1))

    def sums(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values, firsts) if len(firsts) else np.empty(0, np.int64)

    return Blocks(
        shard=np.full(len(firsts), shard, np.int64),
        first_byte=(end_bytes - frame_bytes)[firsts],
        size_bytes=sums(frame_bytes),
        first_document=first_document + firsts,
        documents=np.diff(firsts, append=len(lengths)),
        tokens=sums(lengths),
    )
