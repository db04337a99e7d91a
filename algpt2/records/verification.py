"""A folder of TFRecord shards compared with its manifest: every record is read, and every count is made anew."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from algpt2 import storage
from algpt2.config.records import DOCUMENTS_FORMAT
from algpt2.errors import UserError
from algpt2.progress import progress_bar
from algpt2.records.document_lengths import LENGTH_DTYPE, ShardFile, files_of, lengths_path
from algpt2.records.document_reading import recount_documents
from algpt2.records.manifest import MANIFEST_NAME, SOURCES_NAME, Manifest, counts, read_manifest
from algpt2.records.record_set import load_tokenizer
from algpt2.records.recounting import RecordFault, RecordKind, recount
from algpt2.records.shard_entry import Shard
from algpt2.text.tokenizer import Tokenizer

NAMED_DIFFERENCES = 5
MISSING, TRUNCATED, ALTERED = KINDS = ("missing", "truncated", "altered")


def verify(folder: str) -> dict[str, Any]:
    """Returns the counts of a folder's manifest, and `verified_bytes`, after reading every shard of both splits.

    Compared are each shard's size and CRC32C, the number of its records, the documents that begin in them and, by the
    tokenizer, the bytes that its targets spell; each record's format, length and ids; the lengths beside a shard of
    documents; the hash of `sources.json`; and the tokenizer's hash and size. The number of target tokens follows,
    because a manifest in which they are not those of its records is refused. What the documents were cannot be told
    from packed records: their number, their bytes and the tail are taken as they are.

    Args:
      folder: what make_tfrecords.py made or index_tfrecords.py indexed, on disk or gs://.

    Raises:
      UserError: something differs; the sentence names the first few differences.
    """
    manifest = read_manifest(folder)
    tokenizer = load_tokenizer(folder, manifest.tokenizer_sha256)
    if found := list(_differences(folder, manifest, tokenizer)):
        raise UserError(
            f"{folder} must hold what its {MANIFEST_NAME} says, and {_listed(found)}: copy it again from where it was "
            "made, or make it anew with data_tools/verify_tfrecords.py --repair."
        )
    return {**counts(manifest), "verified_bytes": _size_bytes(manifest)}


def damaged_files(folder: str, manifest: Manifest) -> dict[str, list[str]]:
    """Returns the names of the files that are not those of the manifest, by size and CRC32C, by `KINDS` of damage.

    They are shards, and the files of the lengths of their documents.
    """
    damaged: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for shard in (*manifest.train.shards, *manifest.val.shards):
        for file in files_of(shard):
            if kind := _damage(storage.join(folder, file.name), file):
                damaged[kind].append(file.name)
    return damaged


def _damage(path: str, file: ShardFile) -> str | None:
    store = storage.of(path)
    if not store.is_file(path):
        return MISSING
    if (size_bytes := store.size_bytes(path)) < file.size_bytes:
        return TRUNCATED
    return None if size_bytes == file.size_bytes and store.crc32c(path) == file.crc32c else ALTERED


def _differences(folder: str, manifest: Manifest, tokenizer: Tokenizer) -> Iterator[str]:
    if tokenizer.vocab_size != manifest.vocab_size:
        yield f"the manifest says vocab_size {manifest.vocab_size} and the tokenizer has {tokenizer.vocab_size} ids"
        return
    if manifest.sources_sha256 is not None:
        yield from _sources_differences(storage.join(folder, SOURCES_NAME), manifest.sources_sha256)
    byte_lengths = tokenizer.token_byte_lengths()
    with progress_bar("verifying", "B", _size_bytes(manifest)) as progress:
        for shard in (*manifest.train.shards, *manifest.val.shards):
            file = storage.join(folder, shard.name)
            kind = RecordKind(manifest.format_of(shard), manifest.seq_len, manifest.vocab_size, "the manifest")
            damaged = [told for part in files_of(shard) for told in _content_differences(folder, part)]
            yield from damaged or _count_differences(file, shard, kind, byte_lengths, progress)


def _sources_differences(file: str, sha256: str) -> list[str]:
    if not storage.exists(file):
        return [f"{SOURCES_NAME} is {MISSING}"]
    return [] if storage.file_sha256(file) == sha256 else [f"{SOURCES_NAME} is {ALTERED}"]


def _content_differences(folder: str, file: ShardFile) -> list[str]:
    path = storage.join(folder, file.name)
    kind, store = _damage(path, file), storage.of(path)
    if kind in (None, MISSING):
        return [f"{file.name} is {kind}"] if kind else []
    found = {"size_bytes": store.size_bytes(path), "crc32c": store.crc32c(path)}
    return [f"{file.name} is {kind}", *_told(file, found)]


def _count_differences(file: str, shard: Shard, kind: RecordKind, byte_lengths: np.ndarray, progress: Any) -> list[str]:
    if kind.record_format == DOCUMENTS_FORMAT:
        return _document_differences(file, shard, byte_lengths, progress)
    try:
        found = recount(file, kind, byte_lengths, progress)._asdict()
    except RecordFault as fault:
        return [str(fault)]
    return _told(shard, found)


def _document_differences(file: str, shard: Shard, byte_lengths: np.ndarray, progress: Any) -> list[str]:
    try:
        lengths, target_bytes = recount_documents(file, len(byte_lengths), byte_lengths, progress)
    except RecordFault as fault:
        return [str(fault)]
    tokens = int(lengths.sum(dtype=np.int64))
    found = {"records": len(lengths), "documents": len(lengths), "target_bytes": target_bytes, "tokens": tokens}
    differences = _told(shard, found)
    if storage.read_bytes(lengths_path(file)) != lengths.astype(LENGTH_DTYPE).tobytes():
        differences.append(f"{storage.base_name(lengths_path(file))} does not have the lengths of the documents")
    return differences


def _told(told: Shard | ShardFile, found: dict[str, int | str]) -> list[str]:
    """Returns a part of a sentence for each found value that is not the one that the manifest tells, None apart."""
    entry = {name: getattr(told, name) for name in found}
    return [
        f"{told.name} has {name} {found[name]} and the manifest says {entry[name]}"
        for name in found
        if entry[name] not in (None, found[name])
    ]


def _size_bytes(manifest: Manifest) -> int:
    return sum(shard.size_bytes for shard in (*manifest.train.shards, *manifest.val.shards))


def _listed(differences: list[str]) -> str:
    """Returns the first few differences as one text, and how many more there are."""
    more = len(differences) - NAMED_DIFFERENCES
    return ", ".join(differences[:NAMED_DIFFERENCES]) + (f", and {more} more differ" if more > 0 else "")
