"""A folder of TFRecord shards compared with its manifest: every record is read, and every count is made anew."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.progress import progress_bar
from algpt2.records.manifest import MANIFEST_NAME, SOURCES_NAME, Manifest, Shard, counts, read_manifest
from algpt2.records.record_set import load_tokenizer
from algpt2.records.recounting import RecordFault, RecordKind, recount
from algpt2.text.tokenizer import Tokenizer

NAMED_DIFFERENCES = 5
MISSING, TRUNCATED, ALTERED = KINDS = ("missing", "truncated", "altered")


def verify(folder: str) -> dict[str, Any]:
    """Returns the counts of a folder's manifest, and `verified_bytes`, after reading every shard of both splits.

    Compared are each shard's size and CRC32C, the number of its records, the documents that begin in them and, by the
    tokenizer, the bytes that its targets spell; each record's format, length and ids; the hash of `sources.json`; and
    the tokenizer's hash and size. The number of target tokens follows, because a manifest whose target tokens are not
    records x seq_len is refused. What the documents were cannot be told from records: their number, their bytes and the
    tail are taken as they are.

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


def damaged_shards(folder: str, manifest: Manifest) -> dict[str, list[str]]:
    """Returns the names of the shards that are not those of the manifest, by size and CRC32C, by `KINDS` of damage."""
    damaged: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for shard in (*manifest.train.shards, *manifest.val.shards):
        if kind := _damage(storage.join(folder, shard.name), shard):
            damaged[kind].append(shard.name)
    return damaged


def _damage(file: str, shard: Shard) -> str | None:
    store = storage.of(file)
    if not store.is_file(file):
        return MISSING
    if (size_bytes := store.size_bytes(file)) < shard.size_bytes:
        return TRUNCATED
    return None if size_bytes == shard.size_bytes and store.crc32c(file) == shard.crc32c else ALTERED


def _differences(folder: str, manifest: Manifest, tokenizer: Tokenizer) -> Iterator[str]:
    if tokenizer.vocab_size != manifest.vocab_size:
        yield f"the manifest says vocab_size {manifest.vocab_size} and the tokenizer has {tokenizer.vocab_size} ids"
        return
    if manifest.sources_sha256 is not None:
        yield from _sources_differences(storage.join(folder, SOURCES_NAME), manifest.sources_sha256)
    kind = RecordKind(manifest.record_format, manifest.seq_len, manifest.vocab_size, "the manifest")
    byte_lengths = tokenizer.token_byte_lengths()
    with progress_bar("verifying", "B", _size_bytes(manifest)) as progress:
        for shard in (*manifest.train.shards, *manifest.val.shards):
            file = storage.join(folder, shard.name)
            yield from _content_differences(file, shard) or _count_differences(
                file, shard, kind, byte_lengths, progress
            )


def _sources_differences(file: str, sha256: str) -> list[str]:
    if not storage.exists(file):
        return [f"{SOURCES_NAME} is {MISSING}"]
    return [] if storage.file_sha256(file) == sha256 else [f"{SOURCES_NAME} is {ALTERED}"]


def _content_differences(file: str, shard: Shard) -> list[str]:
    kind, store = _damage(file, shard), storage.of(file)
    if kind in (None, MISSING):
        return [f"{shard.name} is {kind}"] if kind else []
    found = {"size_bytes": store.size_bytes(file), "crc32c": store.crc32c(file)}
    return [f"{shard.name} is {kind}", *_told(shard, found)]


def _count_differences(file: str, shard: Shard, kind: RecordKind, byte_lengths: np.ndarray, progress: Any) -> list[str]:
    try:
        found = recount(file, kind, byte_lengths, progress)._asdict()
    except RecordFault as fault:
        return [str(fault)]
    if shard.documents is None:
        del found["documents"]
    return _told(shard, found)


def _told(shard: Shard, found: dict[str, int | str]) -> list[str]:
    """Returns a part of a sentence for each found value that the shard's entry does not have."""
    entry = {name: getattr(shard, name) for name in found}
    return [
        f"{shard.name} has {name} {found[name]} and the manifest says {entry[name]}"
        for name in found
        if found[name] != entry[name]
    ]


def _size_bytes(manifest: Manifest) -> int:
    return sum(shard.size_bytes for shard in (*manifest.train.shards, *manifest.val.shards))


def _listed(differences: list[str]) -> str:
    """Returns the first few differences as one text, and how many more there are."""
    more = len(differences) - NAMED_DIFFERENCES
    return ", ".join(differences[:NAMED_DIFFERENCES]) + (f", and {more} more differ" if more > 0 else "")
