"""A manifest for a folder of TFRecords made elsewhere: every record is read and checked, and nothing is rewritten."""

import dataclasses
import fnmatch
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import tensorflow as tf

from algpt2 import storage
from algpt2.data import tokenizer_files
from algpt2.data.manifest import MANIFEST_NAME, Manifest, Shard, Split, counts, write_manifest
from algpt2.data.tfrecords import ID_RANGE_RULE, RECORD_LENGTH_RULE, assert_ids_below, identify_record, parse_records
from algpt2.data.tokenizer import Tokenizer
from algpt2.errors import UserError
from algpt2.progress import progress_bar

TFRECORD_NAME_PART = ".tfrec"
BATCH_RECORDS = 1024
FRAME_BYTES = 16  # a record's length, its checksum and the data's checksum
RECORD_RULE = "every record must be a tf.train.Example of `ids`, or of `inputs` and, one id further on, `labels`"


def index_tfrecords(folder: str, tokenizer_folder: str, val_pattern: str) -> dict[str, Any]:
    """Writes the tokenizer's files and, last, `manifest.json` into a folder of TFRecords made elsewhere.

    Args:
      folder: local or `gs://`; TFRecord files right in it, all of one format and length, become its shards.
      tokenizer_folder: the tokenizer that the records were made with.
      val_pattern: shell pattern of the names of the files that form the `val` split; the others form `train`.

    Returns:
      The manifest's counts, and `ignored_files`: those below the folder that are not shards.

    Raises:
      UserError: there are no TFRecords, a manifest or a tokenizer is there already, or a file or a record is not as it
        must be.
    """
    folder = _as_listed(folder)
    present = storage.of(folder).list_files(folder)
    files = [file for file in present if storage.parent(file) == folder and _is_tfrecord(file)]
    _require_indexable(folder, files, present)
    tokenizer = Tokenizer.load(tokenizer_folder)
    shards, first = _read_shards(files, tokenizer)
    manifest = Manifest(
        seq_len=first.seq_len,
        vocab_size=tokenizer.vocab_size,
        eos_id=tokenizer.eos_id,
        tokenizer_sha256=tokenizer.sha256,
        seed=None,
        val_fraction=None,
        train=_split([s for s in shards if not fnmatch.fnmatchcase(s.name, val_pattern)], first.seq_len),
        val=_split([s for s in shards if fnmatch.fnmatchcase(s.name, val_pattern)], first.seq_len),
        record_format=first.record_format,
    )
    tokenizer.save(folder)
    write_manifest(folder, manifest)
    return {**counts(manifest), "ignored_files": [file for file in present if file not in files]}


@dataclasses.dataclass(frozen=True)
class _RecordKind:
    """The format and length that all records of a folder must have, those of its first, and the vocabulary's size."""

    record_format: str
    seq_len: int
    vocab_size: int

    def ids(self, serialized: tf.Tensor) -> np.ndarray:
        """string (N,) -> int32 (N, seq_len + 1); `tf.errors.InvalidArgumentError` if one is of another kind."""
        ids = parse_records(serialized, self.seq_len, self.vocab_size, self.record_format)
        return assert_ids_below(ids, self.vocab_size).numpy()

    def complaint(self, serialized: bytes, place: str) -> str | None:
        """Returns what is wrong with one record, as a sentence, or None."""
        try:
            record_format, ids = identify_record(serialized, self.vocab_size)
        except ValueError as error:
            return f"{RECORD_RULE}, and {place} {error}: make the records again."
        if record_format != self.record_format:
            return (
                f"all records of a folder must have one format, {self.record_format} as in its first, and {place} has "
                f"{record_format}: put each format into a folder of its own."
            )
        if len(ids) != self.seq_len + 1:
            return (
                f"{RECORD_LENGTH_RULE}, {self.seq_len + 1} as in the folder's first, and {place} has {len(ids)}: "
                "put each length into a folder of its own."
            )
        foreign = ids[(ids < 0) | (ids >= self.vocab_size)]
        if len(foreign):
            return (
                f"{ID_RANGE_RULE} of the tokenizer, {self.vocab_size}, and {place} has {foreign[0]}: "
                "name the tokenizer that the records were made with."
            )
        return None


def _as_listed(folder: str) -> str:
    """Returns a folder spelt as the paths of the files in it begin when they are listed: './a//b/' -> 'a/b'."""
    return storage.trim(folder) if storage.is_remote(folder) or not folder else str(Path(folder))


def _is_tfrecord(file: str) -> bool:
    """Returns whether a file's name says so, or its beginning: a record's length and the masked CRC32C of that length.

    The mask is TensorFlow's (`Mask` in its crc32c.h).
    """
    if TFRECORD_NAME_PART in storage.base_name(file):
        return True
    with storage.of(file).open_read(file) as stream:
        start = stream.read(12)
    if len(start) < 12:
        return False
    crc32c = google_crc32c.value(start[:8])
    masked = ((crc32c >> 15 | crc32c << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return struct.unpack("<I", start[8:])[0] == masked


def _require_indexable(folder: str, files: list[str], present: list[str]) -> None:
    if not files:
        raise UserError(
            f"the folder must hold TFRecord files, and of the {len(present)} files in {folder} none is one that lies "
            "right in it: name the folder with the TFRecords."
        )
    own_names = {MANIFEST_NAME, tokenizer_files.TOKENIZER_NAME}.union(*tokenizer_files.VOCAB_AND_MERGES_NAMES)
    if taken := sorted(own_names.intersection(storage.base_name(f) for f in present if storage.parent(f) == folder)):
        raise UserError(
            f"a folder to be indexed must have no manifest and no tokenizer, which are never overwritten, and {folder} "
            f"has {', '.join(taken)}: move them elsewhere."
        )
    storage.of(folder).require_writable(folder)


def _read_shards(files: list[str], tokenizer: Tokenizer) -> tuple[list[Shard], _RecordKind]:
    """Returns every file's entry, and what its records are like."""
    byte_lengths = tokenizer.token_byte_lengths()
    kind = _first_kind(files[0], tokenizer.vocab_size)
    with progress_bar("checking records", "B", sum(storage.of(file).size_bytes(file) for file in files)) as progress:
        return [_read_shard(file, kind, byte_lengths, progress) for file in files], kind


def _first_kind(file: str, vocab_size: int) -> _RecordKind:
    serialized = next(_batches(file, 1)).numpy()[0]
    try:
        record_format, ids = identify_record(serialized, vocab_size)
    except ValueError as error:
        raise UserError(f"{RECORD_RULE}, and record 0 of {file} {error}: make the records again.") from error
    return _RecordKind(record_format, len(ids) - 1, vocab_size)


def _read_shard(file: str, kind: _RecordKind, byte_lengths: np.ndarray, progress: Any) -> Shard:
    count, target_bytes = 0, 0
    for serialized in _batches(file, BATCH_RECORDS):
        try:
            ids = kind.ids(serialized)
        except (tf.errors.InvalidArgumentError, UnicodeDecodeError) as error:
            # TensorFlow's message may quote bytes of the record, and is then no text that Python could decode.
            if complaint := _complaint(file, count, serialized, kind):
                raise UserError(complaint) from error
            raise
        count += len(ids)
        target_bytes += int(byte_lengths[ids[:, 1:]].sum())
        progress.update(int(tf.reduce_sum(tf.strings.length(serialized))) + FRAME_BYTES * len(ids))
    store = storage.of(file)
    return Shard(storage.base_name(file), count, store.size_bytes(file), store.crc32c(file), target_bytes)


def _batches(file: str, size: int) -> Iterator[tf.Tensor]:
    """Yields a file's serialized records, string (up to size,) at a time."""
    empty = True
    try:
        with storage.local_copy(file) as local_file:
            for serialized in tf.data.TFRecordDataset(local_file).batch(size):
                empty = False
                yield serialized
    except tf.errors.DataLossError as error:
        raise UserError(
            f"every file must be a whole, uncompressed TFRecord file, and {file} is damaged "
            f"({error.message.splitlines()[0]}): copy it again."
        ) from error
    if empty:
        raise UserError(f"every TFRecord file must hold records, and {file} has none: copy it again or delete it.")


def _complaint(file: str, first: int, serialized: tf.Tensor, kind: _RecordKind) -> str | None:
    """Returns what is wrong with the first bad one of a file's records, of which these start at number `first`."""
    complaints = (
        kind.complaint(record, f"record {number} of {file}") for number, record in enumerate(serialized.numpy(), first)
    )
    return next(filter(None, complaints), None)


def _split(shards: list[Shard], seq_len: int) -> Split:
    return Split(
        documents=None,
        text_bytes=None,
        input_tokens=None,
        target_tokens=sum(shard.records for shard in shards) * seq_len,
        tail_tokens=None,
        shards=tuple(shards),
    )
