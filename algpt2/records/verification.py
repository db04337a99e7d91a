"""A folder of TFRecord shards compared with its manifest: every record is read, and every count is made anew."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from algpt2 import storage
from algpt2.config.records import DOCUMENTS_FORMAT
from algpt2.errors import UserError
from algpt2.progress import progress_bar
from algpt2.records.document_lengths import LENGTH_DTYPE, lengths_path
from algpt2.records.document_reading import recount_documents
from algpt2.records.manifest import MANIFEST_NAME, Manifest, Shard, counts, read_manifest
from algpt2.records.record_set import load_tokenizer
from algpt2.records.recounting import RecordFault, RecordKind, recount
from algpt2.text.tokenizer import Tokenizer

NAMED_DIFFERENCES = 5


def verify(folder: str) -> dict[str, Any]:
    """Returns the counts of a folder's manifest, and `verified_bytes`, after reading every shard of both splits.

    Compared are each shard's size and CRC32C, the number of its records and, by the tokenizer, the bytes that its
    targets spell; each record's format, length and ids; and the tokenizer's hash and size. The number of target tokens
    follows, because a manifest whose target tokens are not records x seq_len is refused. What the documents were cannot
    be told from records: their number, their bytes and the tail are taken as they are.

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
            "made, or make it anew."
        )
    return {**counts(manifest), "verified_bytes": _size_bytes(manifest)}


def _differences(folder: str, manifest: Manifest, tokenizer: Tokenizer) -> Iterator[str]:
    if tokenizer.vocab_size != manifest.vocab_size:
        yield f"the manifest says vocab_size {manifest.vocab_size} and the tokenizer has {tokenizer.vocab_size} ids"
        return
    byte_lengths = tokenizer.token_byte_lengths()
    with progress_bar("verifying", "B", _size_bytes(manifest)) as progress:
        for shard in (*manifest.train.shards, *manifest.val.shards):
            file = storage.join(folder, shard.name)
            kind = RecordKind(manifest.format_of(shard), manifest.seq_len, manifest.vocab_size, "the manifest")
            yield from _content_differences(file, shard) or _count_differences(
                file, shard, kind, byte_lengths, progress
            )


def _content_differences(file: str, shard: Shard) -> list[str]:
    store, lengths = storage.of(file), lengths_path(file)
    if not store.is_file(file):
        return [f"{shard.name} is missing"]
    found = {"size_bytes": store.size_bytes(file), "crc32c": store.crc32c(file)}
    if shard.lengths_crc32c is not None:
        if not store.is_file(lengths):
            return [*_told(shard, found), f"{storage.base_name(lengths)} is missing"]
        found["lengths_crc32c"] = store.crc32c(lengths)
    return _told(shard, found)


def _count_differences(file: str, shard: Shard, kind: RecordKind, byte_lengths: np.ndarray, progress: Any) -> list[str]:
    if kind.record_format == DOCUMENTS_FORMAT:
        return _document_differences(file, shard, byte_lengths, progress)
    try:
        records, target_bytes = recount(file, kind, byte_lengths, progress)
    except RecordFault as fault:
        return [str(fault)]
    return _told(shard, {"records": records, "target_bytes": target_bytes})


def _document_differences(file: str, shard: Shard, byte_lengths: np.ndarray, progress: Any) -> list[str]:
    try:
        lengths, target_bytes = recount_documents(file, len(byte_lengths), byte_lengths, progress)
    except RecordFault as fault:
        return [str(fault)]
    tokens = int(lengths.sum(dtype=np.int64))
    found = _told(shard, {"records": len(lengths), "target_bytes": target_bytes, "tokens": tokens})
    if storage.read_bytes(lengths_path(file)) != lengths.astype(LENGTH_DTYPE).tobytes():
        found.append(f"{storage.base_name(lengths_path(file))} does not have the lengths of the documents")
    return found


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
