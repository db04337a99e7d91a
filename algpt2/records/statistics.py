"""What the records of a split are like: lengths of documents, documents of a record, and how often each token comes."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from algpt2 import storage
from algpt2.config.records import DOCUMENTS_FORMAT, LOSSY_PACKINGS
from algpt2.errors import UserError
from algpt2.progress import progress_bar
from algpt2.records.document_reading import read_documents
from algpt2.records.manifest import WEIGHTED_FORMAT, Manifest, read_manifest
from algpt2.records.record_set import load_tokenizer, require_size
from algpt2.records.recounting import BATCH_RECORDS, RecordFault, RecordKind, serialized_batches
from algpt2.records.shard_entry import Shard
from algpt2.records.weighted_writing import begin_conversations
from algpt2.text.tokenizer import Tokenizer

MOST_LISTED_TOKENS = 20
QUANTILES = {"median": 0.5, "p90": 0.9, "p99": 0.99}


@dataclasses.dataclass
class Tallies:
    """What is counted of records while they are read.

    Attributes:
      token_uses: int64 (vocab_size,), how often each id is a target.
      documents_in_a_record: how many records have parts of so many documents.
      document_tokens: how many documents have so many tokens, EOS not counted.
    """

    token_uses: np.ndarray
    documents_in_a_record: Counter[int] = dataclasses.field(default_factory=Counter)
    document_tokens: Counter[int] = dataclasses.field(default_factory=Counter)


def statistics(folder: str, split: str, on_tallies: Callable[[Tallies], Any] | None = None) -> dict[str, Any]:
    """Returns the statistics of a folder's records, all of which are read.

    In a stream of records a document goes on from one to the next and is counted as a whole, but for the last one,
    whose end is not there. Where each record begins with a document, the lengths are those of what stands in records.
    Where each record is a document, all are counted, and `documents_in_a_record` is 1 for each. Conversations are
    documents, with their template and all that the other side says; what fills up a record is not counted.

    Args:
      folder: of records with a manifest, local or gs://.
      split: "train" or "val".
      on_tallies: called with all that was counted, for a drawing of it.

    Returns:
      `records`; `document_tokens` with the count, mean, quantiles, largest and a `histogram` by powers of 2;
      `documents_in_a_record`, how many records have parts of so many; `unused_ids`, EOS apart; `entropy_nats` of a
      token by its frequency alone; `frequent_tokens`.

    Raises:
      UserError: there is no manifest, or a shard is missing, damaged or of other records; or the split is empty.
    """
    manifest = read_manifest(folder)
    tokenizer = load_tokenizer(folder, manifest.tokenizer_sha256)
    if not getattr(manifest, split).records:
        raise UserError(f"a split must have records for statistics, and the {split} split of {folder} has none.")
    tallies = Tallies(np.zeros(manifest.vocab_size, np.int64))
    try:
        _tally(tallies, folder, manifest, split)
    except RecordFault as error:
        raise UserError(f"{error}: {error.remedy}.") from error
    if on_tallies:
        on_tallies(tallies)
    return {"records": getattr(manifest, split).records, **_figures(tallies, tokenizer)}


def _tally(tallies: Tallies, folder: str, manifest: Manifest, split: str) -> None:
    shards = getattr(manifest, split).shards
    if any(manifest.format_of(shard) == DOCUMENTS_FORMAT for shard in shards):
        _tally_documents(tallies, folder, manifest, shards)
        return
    if manifest.record_format == WEIGHTED_FORMAT:
        for ids in _blocks(folder, manifest, split):
            _tally_conversations(tallies, ids, manifest.eos_id)
        return
    is_stream = manifest.packing not in LOSSY_PACKINGS
    begun = 0  # Tokens of the document that the records so far end in.
    for place, ids in enumerate(_blocks(folder, manifest, split)):
        tallies.token_uses += np.bincount(ids[:, 1:].ravel(), minlength=len(tallies.token_uses))
        is_eos = ids == manifest.eos_id
        parts = is_eos[:, :-1].sum(axis=1) + ~is_eos[:, 0]
        tallies.documents_in_a_record.update(parts.tolist())
        if is_stream:
            flat = is_eos[:, 1:].ravel() if place else np.concatenate([is_eos[0, :1], is_eos[:, 1:].ravel()])
            lengths, begun = _lengths(flat, begun)
            tallies.document_tokens.update(lengths)
        else:
            for row in is_eos:
                (_, *lengths), last = _lengths(row, 0)
                tallies.document_tokens.update(lengths if row[-1] else [*lengths, last])
    if is_stream and tallies.document_tokens:
        # In front of the first EOS stands nothing.
        tallies.document_tokens.subtract([0])


def _tally_conversations(tallies: Tallies, records: np.ndarray, eos_id: int) -> None:
    """Counts whole conversations, each behind EOS, without the EOS that fill up a record."""
    for row in records:
        begins = np.flatnonzero(begin_conversations(row, eos_id))
        end = int(np.flatnonzero(row != eos_id)[-1]) + 1
        tallies.documents_in_a_record[len(begins)] += 1
        tallies.document_tokens.update((np.diff(begins, append=end) - 1).tolist())
        tallies.token_uses += np.bincount(row[1:end], minlength=len(tallies.token_uses))


def _tally_documents(tallies: Tallies, folder: str, manifest: Manifest, shards: Sequence[Shard]) -> None:
    with progress_bar("reading records", "record", sum(shard.records for shard in shards)) as progress:
        for file in _files_of(folder, shards):
            for batch in read_documents(file, manifest.vocab_size):
                tallies.token_uses += np.bincount(batch.ids, minlength=len(tallies.token_uses))
                tallies.documents_in_a_record[1] += len(batch.lengths)
                tallies.document_tokens.update((batch.lengths - 1).tolist())
                progress.update(len(batch.lengths))


def _lengths(is_eos: np.ndarray, begun: int) -> tuple[list[int], int]:
    """Returns the lengths of the documents that end within some ids, and how much of the last is there.

    The first has `begun` tokens already; what stands in front of the first EOS of all has length 0.
    """
    places = np.flatnonzero(is_eos)
    if not len(places):
        return [], begun + len(is_eos)
    lengths = np.diff(places, prepend=-1) - 1
    lengths[0] += begun
    return lengths.tolist(), len(is_eos) - 1 - int(places[-1])


def _blocks(folder: str, manifest: Manifest, split: str) -> Iterator[np.ndarray]:
    shards = getattr(manifest, split).shards
    kind = RecordKind(manifest.format_of(shards[0]), manifest.seq_len, manifest.vocab_size, "the manifest")
    with progress_bar("reading records", "record", sum(shard.records for shard in shards)) as progress:
        for file in _files_of(folder, shards):
            for serialized in serialized_batches(file, BATCH_RECORDS):
                ids = kind.ids(serialized)
                yield ids
                progress.update(len(ids))


def _files_of(folder: str, shards: Sequence[Shard]) -> Iterator[str]:
    """Yields the files of shards, each after its size is compared."""
    for shard in shards:
        file = storage.join(folder, shard.name)
        require_size(file, shard)
        yield file


def _figures(tallies: Tallies, tokenizer: Tokenizer) -> dict[str, Any]:
    uses, in_a_record = tallies.token_uses, tallies.documents_in_a_record
    shares = uses[uses > 0] / uses.sum()
    frequent = np.argsort(-uses, kind="stable")[:MOST_LISTED_TOKENS].tolist()
    return {
        "document_tokens": _length_figures(+tallies.document_tokens),
        "documents_in_a_record": {str(count): in_a_record[count] for count in sorted(in_a_record)},
        "unused_ids": int((uses[: tokenizer.eos_id] == 0).sum()),
        "entropy_nats": float(-(shares * np.log(shares)).sum()),
        "frequent_tokens": [{"id": id_, "text": tokenizer.decode([id_]), "uses": int(uses[id_])} for id_ in frequent],
    }


def _length_figures(lengths: Counter[int]) -> dict[str, Any]:
    values = np.array(sorted(lengths), dtype=np.int64)
    counts = np.array([lengths[value] for value in values.tolist()], dtype=np.int64)
    total = int(counts.sum())
    if not total:
        return {"count": 0}
    ends = np.cumsum(counts)
    quantiles = {name: int(values[np.searchsorted(ends, share * total)]) for name, share in QUANTILES.items()}
    histogram: Counter[int] = Counter()
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        histogram[value.bit_length()] += count
    mean = float((values * counts).sum() / total)
    named = {_power_range(bits): histogram[bits] for bits in sorted(histogram)}
    return {"count": total, "mean": mean, **quantiles, "largest": int(values[-1]), "histogram": named}


def _power_range(bits: int) -> str:
    """0 -> '0', 1 -> '1', 2 -> '2-3', 3 -> '4-7'."""
    first, last = (1 << bits) >> 1, (1 << bits) - 1
    return str(first) if first == last else f"{first}-{last}"
