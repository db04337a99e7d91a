"""A manifest for a folder of TFRecords made elsewhere: every record is read and checked, and nothing is rewritten."""

import fnmatch
import struct
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.progress import progress_bar
from algpt2.records.manifest import MANIFEST_NAME, Manifest, Shard, Split, counts, write_manifest
from algpt2.records.recounting import RecordFault, RecordKind, empty_file, recount
from algpt2.text import tokenizer_files
from algpt2.text.tokenizer import Tokenizer

TFRECORD_NAME_PART = ".tfrec"


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
        train=_split([s for s in shards if not _is_named(s.name, val_pattern)], first.seq_len),
        val=_split([s for s in shards if _is_named(s.name, val_pattern)], first.seq_len),
        record_format=first.record_format,
        packing=None,
    )
    tokenizer.save(folder)
    write_manifest(folder, manifest)
    return {**counts(manifest), "ignored_files": [file for file in present if file not in files]}


def _is_named(name: str, pattern: str) -> bool:
    """Returns whether a name matches a shell pattern, or is the pattern as it is written."""
    return name == pattern or fnmatch.fnmatchcase(name, pattern)


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
    if taken := sorted(name for name in own_names if storage.exists(storage.join(folder, name))):
        raise UserError(
            f"a folder to be indexed must have no manifest and no tokenizer, which are never overwritten, and {folder} "
            f"has {', '.join(taken)}: move them elsewhere."
        )
    storage.of(folder).require_writable(folder)


def _read_shards(files: list[str], tokenizer: Tokenizer) -> tuple[list[Shard], RecordKind]:
    """Returns every file's entry, and what its records are like."""
    byte_lengths = tokenizer.token_byte_lengths()
    size_bytes = sum(storage.of(file).size_bytes(file) for file in files)
    try:
        kind = RecordKind.of_first_record(files[0], tokenizer.vocab_size)
        with progress_bar("checking records", "B", size_bytes) as progress:
            return [_read_shard(file, kind, byte_lengths, progress) for file in files], kind
    except RecordFault as fault:
        raise UserError(f"{fault}: {fault.remedy}.") from fault


def _read_shard(file: str, kind: RecordKind, byte_lengths: np.ndarray, progress: Any) -> Shard:
    found = recount(file, kind, byte_lengths, progress)
    if not found.records:
        raise empty_file(file)
    store = storage.of(file)
    size_bytes, crc32c = store.size_bytes(file), store.crc32c(file)
    return Shard(storage.base_name(file), found.records, size_bytes, crc32c, found.target_bytes, found.documents)


def _split(shards: list[Shard], seq_len: int) -> Split:
    return Split(
        documents=None,
        text_bytes=None,
        input_tokens=None,
        target_tokens=sum(shard.records for shard in shards) * seq_len,
        tail_tokens=None,
        shards=tuple(shards),
        lost_tokens=None,
        false_eos=None,
    )
