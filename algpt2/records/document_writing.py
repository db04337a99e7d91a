"""Writes a shard of documents, one a record, and the file of their lengths, with the checksums taken on the way."""

from collections.abc import Iterable

import numpy as np

from algpt2 import storage
from algpt2.records.document_lengths import LENGTH_DTYPE, write_lengths
from algpt2.records.record_bytes import frame, id_dtype
from algpt2.records.shard_entry import Shard
from algpt2.records.shard_writing import require_ids_below, shard_stream


def write_document_shard(path: str, blocks: Iterable[tuple[np.ndarray, np.ndarray]], byte_lengths: np.ndarray) -> Shard:
    """Writes documents to one TFRecord file and their lengths beside it, each whole or not at all; returns the entry.

    Args:
      path: where the file goes.
      blocks: of documents: their lengths, (N,), and their ids, one document after the other, EOS in front of each.
      byte_lengths: int (vocab_size,), how many bytes of text each id spells.

    Raises:
      OSError: a file cannot be written, for example because the disk is full.
      ValueError: an id is not in the vocabulary, so that it would be stored as another one.
    """
    dtype = id_dtype(len(byte_lengths))
    target_bytes, written = 0, [np.empty(0, LENGTH_DTYPE)]
    with shard_stream(path) as stream:
        for lengths, ids in blocks:
            require_ids_below(len(byte_lengths), ids)
            stored = np.ascontiguousarray(ids, dtype)
            ends = np.cumsum(lengths, dtype=np.int64)
            pairs = zip(ends, lengths, strict=True)
            stream.write(b"".join(frame(stored[end - length : end].tobytes()) for end, length in pairs))
            target_bytes += int(byte_lengths[ids].sum(dtype=np.int64))
            written.append(np.asarray(lengths, LENGTH_DTYPE))
    lengths = np.concatenate(written)
    return Shard(
        name=storage.base_name(path),
        records=len(lengths),
        size_bytes=stream.size_bytes,
        crc32c=stream.crc32c,
        target_bytes=target_bytes,
        documents=len(lengths),
        tokens=int(lengths.sum(dtype=np.int64)),
        lengths_crc32c=write_lengths(path, lengths),
    )
