"""Documents to a folder of TFRecord shards: tokenise, split, shuffle, pack, write, and the manifest last."""

import functools
import hashlib
import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from algpt2 import storage
from algpt2.config.records import LEGACY_PACKING, RecordOptions
from algpt2.errors import UserError
from algpt2.preparation.document_shuffle import DocumentShuffle, content_digest
from algpt2.preparation.packing import AnyPacker, create_packer, pack_documents, record_count
from algpt2.progress import progress_bar
from algpt2.records.manifest import Manifest, Split, counts, write_manifest
from algpt2.records.record_bytes import id_dtype
from algpt2.records.shard_writing import write_shard
from algpt2.text.documents import Document, input_bytes, iterate_documents, require_documents
from algpt2.text.tokenizer import Tokenizer

BATCH_DOCUMENTS = 1024
BATCH_CHARACTERS = 1 << 22


def make_tfrecords(inputs: Sequence[str], tokenizer_folder: str, output: str, options: RecordOptions) -> dict[str, Any]:
    """Writes `train-*` and `val-*` shards, the tokenizer's files and `manifest.json` to a new folder.

    The files are the same, byte for byte, for the same documents in any order. Exact copies of a document land in
    the same split.

    Returns:
      The manifest's counts, and `tokens_per_second` of the whole run (all input tokens / wall-clock seconds).

    Raises:
      UserError: the output folder already holds something; the tokenizer or the input is wrong; or the documents
        are too few for the split, or for the number of shards, that was asked for.
    """
    start = time.perf_counter()
    storage.require_empty(output)
    tokenizer = Tokenizer.load(tokenizer_folder)
    dtype = id_dtype(tokenizer.vocab_size)
    with DocumentShuffle(options.seed, dtype) as train_shuffle, DocumentShuffle(options.seed, dtype) as val_shuffle:
        train = _SplitDocuments(options, tokenizer, train_shuffle)
        val = _SplitDocuments(options, tokenizer, val_shuffle)
        _tokenise(inputs, tokenizer, options, train, val)
        train.check_records("train", options.num_shards)
        val.check_records("val", options.num_val_shards)
        splits = {
            "train": train.write("train", options.num_shards, output),
            "val": val.write("val", options.num_val_shards, output),
        }
    tokenizer.save(output)
    manifest = _manifest(tokenizer, options, splits)
    write_manifest(output, manifest)
    tokens = manifest.train.input_tokens + manifest.val.input_tokens
    return {**counts(manifest), "tokens_per_second": round(tokens / (time.perf_counter() - start))}


def is_held_out(digest: bytes, val_fraction: float) -> bool:
    """Returns whether the document of a `content_digest` belongs to `val`; seed and order have no part in it."""
    place = hashlib.blake2b(digest, digest_size=8, person=b"algpt2-split").digest()
    return int.from_bytes(place, "big") < val_fraction * 2**64


class _Packed(NamedTuple):
    """What the documents of a split come to: their records, and what the packing loses (`Split`)."""

    records: int
    lost_tokens: int = 0
    false_eos: int = 0


class _SplitDocuments:
    """The documents of one split: counted and shuffled, then written."""

    def __init__(self, options: RecordOptions, tokenizer: Tokenizer, shuffle: DocumentShuffle):
        self._options = options
        self._tokenizer = tokenizer
        self._byte_lengths = tokenizer.token_byte_lengths()
        self._shuffle = shuffle
        self._counts = {"documents": 0, "text_bytes": 0, "input_tokens": 0}

    def add(self, digest: bytes, text_bytes: int, ids: Sequence[int]) -> None:
        """Takes one document: its `content_digest`, the size of its UTF-8, and its ids without EOS.

        Raises:
          RuntimeError: the ids do not spell a text of that size, so the tokenizer is broken.
        """
        ids = np.asarray(ids, dtype=np.int32)
        if self._byte_lengths[ids].sum() != text_bytes:
            raise RuntimeError(f"the tokenizer turned {text_bytes} bytes into {self._byte_lengths[ids].sum()}")
        self._shuffle.add(digest, ids)
        self._counts["documents"] += 1
        self._counts["text_bytes"] += text_bytes
        self._counts["input_tokens"] += 1 + len(ids)  # EOS stands in front of every document

    @functools.cached_property
    def packed(self) -> _Packed:
        """What all documents come to; take it after the last one is added. The legacy packing is done once for it."""
        if self._options.packing != LEGACY_PACKING:
            return _Packed(record_count(self._counts["input_tokens"], self._options.seq_len))
        packer = self._create_packer()
        records = sum(1 for _ in pack_documents(self._shuffle.documents(), packer))
        return _Packed(records, packer.lost_tokens, packer.false_eos)

    def check_records(self, name: str, num_shards: int) -> None:
        """Raises `UserError` if there is less than one record for a shard."""
        if self.packed.records >= num_shards:
            return
        found = f"the {name} split has {self.packed.records} of {self._options.seq_len} tokens"
        remedy = "use a larger corpus, a smaller --seq_len or fewer --num_shards"
        if name == "val":
            remedy = "use a larger corpus, a smaller --seq_len, or another --val_fraction (0 holds nothing out)"
        raise UserError(f"a split must have at least {num_shards} records, one a shard, and {found}: {remedy}.")

    def write(self, name: str, num_shards: int, folder: str) -> Split:
        """Packs the documents in their shuffled order and writes the records to shards, nearly equal in size."""
        total, shards = self.packed.records, []
        with progress_bar(f"writing {name}", "record", total if num_shards else 0) as progress:
            records = _reported(pack_documents(self._shuffle.documents(), self._create_packer()), progress)
            for index in range(num_shards):
                size = total // num_shards + (index < total % num_shards)
                path = storage.join(folder, f"{name}-{index:05d}-of-{num_shards:05d}.tfrecord")
                shards.append(write_shard(path, itertools.islice(records, size), self._byte_lengths))
        target_tokens = sum(shard.records for shard in shards) * self._options.seq_len
        return Split(
            **self._counts,
            target_tokens=target_tokens,
            tail_tokens=self._counts["input_tokens"] - target_tokens,
            shards=tuple(shards),
            lost_tokens=self.packed.lost_tokens,
            false_eos=self.packed.false_eos,
        )

    def _create_packer(self) -> AnyPacker:
        return create_packer(self._options.packing, self._options.seq_len, self._tokenizer.eos_id)


def _reported(records: Iterable[np.ndarray], progress: Any) -> Iterator[np.ndarray]:
    for record in records:
        progress.update(1)
        yield record


def _tokenise(
    inputs: Sequence[str], tokenizer: Tokenizer, options: RecordOptions, train: _SplitDocuments, val: _SplitDocuments
) -> None:
    with progress_bar("tokenising", "B", input_bytes(inputs)) as progress:
        documents = require_documents(iterate_documents(inputs, options.text_key, progress.update))
        for batch in _batches(documents):
            ids_of_texts = tokenizer.encode_batch([document.text for document in batch])
            for document, ids in zip(batch, ids_of_texts, strict=True):
                digest = content_digest(document.utf8)
                split = val if is_held_out(digest, options.val_fraction) else train
                split.add(digest, len(document.utf8), ids)


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Yields lists of documents, bounded in number and, but for one longer document, in characters."""
    batch, characters = [], 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        if len(batch) >= BATCH_DOCUMENTS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _manifest(tokenizer: Tokenizer, options: RecordOptions, splits: dict[str, Split]) -> Manifest:
    return Manifest(
        seq_len=options.seq_len,
        vocab_size=tokenizer.vocab_size,
        eos_id=tokenizer.eos_id,
        tokenizer_sha256=tokenizer.sha256,
        seed=options.seed,
        val_fraction=options.val_fraction,
        packing=options.packing,
        **splits,
    )
