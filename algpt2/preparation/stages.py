"""The stages of a preparation, each shared out to whatever does the work: encode, compare, write."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from algpt2 import storage
from algpt2.config.records import LOSSY_PACKINGS, RecordOptions
from algpt2.errors import UserError
from algpt2.preparation.encoding import TRAIN, VAL, SplitCounts
from algpt2.preparation.outcome import encoded_pieces, none_taken
from algpt2.preparation.packing import record_count
from algpt2.preparation.plan import Plan
from algpt2.preparation.pool import Pool
from algpt2.preparation.work import KeptDocuments, PackedSplit, Report, Shards, Work, stores_documents
from algpt2.preparation.work_folder import WorkFolder
from algpt2.progress import progress_bar
from algpt2.records.manifest import Split
from algpt2.records.shard_entry import row_count

SHARDS_OF = {TRAIN: "num_shards", VAL: "num_val_shards"}


class TooFewRecordsError(UserError):
    """The documents fill too few records."""


class Found(NamedTuple):
    """The documents of a split that are taken: their counts, those of each piece, and what is left without duplicates.

    counts: of the documents.
    taken: how many there are of each piece of the input, int64 (pieces,).
    duplicate_documents, near_duplicate_documents, bin_sizes: of `KeptDocuments`; None where none are looked for.
    """

    counts: SplitCounts
    taken: np.ndarray
    duplicate_documents: int | None = None
    near_duplicate_documents: int | None = None
    bin_sizes: np.ndarray | None = None


class _Packed(NamedTuple):
    """What the documents of a split come to: their records, and what the packing loses (`Split`)."""

    records: int
    lost_tokens: int = 0
    false_eos: int = 0


def encode_pieces(plan: Plan, folder: WorkFolder, pool: Pool) -> None:
    """Encodes the pieces of a plan that are not encoded yet."""
    todo = [number for number, named in enumerate(plan.pieces) if folder.encoded_piece(named.name) is None]
    left = sum(plan.pieces[number].piece.size_bytes for number in todo)
    with progress_bar("tokenising", "B", plan.input_bytes) as progress:
        progress.update(plan.input_bytes - left)
        pool.run(_encode_piece, [(number,) for number in todo], progress.update)


def _encode_piece(work: Work, report: Report, number: int) -> None:
    work.encode(number, report)


def found_documents(plan: Plan, folder: WorkFolder, pool: Pool) -> dict[str, Found]:
    """Returns the documents of each split that are taken, where all pieces of a plan are encoded."""
    if plan.options.near_duplicates is not None:
        _find_near_duplicates(plan, folder, pool)
    return {split: _found(plan, folder, pool, split) for split in (TRAIN, VAL)}


def write_shards(plan: Plan, folder: WorkFolder, pool: Pool, found: Mapping[str, Found]) -> dict[str, Split]:
    """Writes the shards of a plan that are not written yet; returns the splits' entries in a manifest.

    Args:
      plan: of the preparation, all pieces of which are encoded.
      folder: of its unfinished work.
      pool: that does the work.
      found: what `found_documents` returned.

    Raises:
      TooFewRecordsError: the documents are too few for the shards.
    """
    if not any(of_split.counts.documents for of_split in found.values()):
        raise TooFewRecordsError(none_taken(plan, folder))
    packed = {split: _packed(plan, pool, split, of_split.counts) for split, of_split in found.items()}
    shards = {split: Shards(packed[split].records, getattr(plan.options, SHARDS_OF[split])) for split in found}
    for split in found:
        _check_records(split, packed[split].records, plan.options, shards[split].count)
    for split in found:
        _write_split(plan, folder, pool, PackedSplit(split, shards[split], found[split].bin_sizes))
    return {split: _entry(folder, split, found[split], packed[split], shards[split], plan) for split in found}


def split_counts(plan: Plan, folder: WorkFolder, split: str) -> SplitCounts:
    """Returns the counts of a split's encoded documents, as often as they are taken, duplicates among them."""
    return sum((piece.counts for piece in encoded_pieces(plan, folder, split)), SplitCounts())


def _find_near_duplicates(plan: Plan, folder: WorkFolder, pool: Pool) -> None:
    """Compares the signatures of all documents, of those bins that are not compared yet."""
    ranges = plan.layout.ranges()
    todo = [one for one in ranges if not storage.exists(folder.near_duplicates(plan, one[0]))]
    with progress_bar("comparing signatures", "bin", plan.layout.bins) as progress:
        progress.update(plan.layout.bins - sum(end_bin - first_bin for first_bin, end_bin in todo))
        pool.run(_compare_signatures, todo, progress.update)


def _compare_signatures(work: Work, report: Report, first_bin: int, end_bin: int) -> None:
    work.find_near_duplicates(first_bin, end_bin, report)


def _found(plan: Plan, folder: WorkFolder, pool: Pool, split: str) -> Found:
    encoded = encoded_pieces(plan, folder, split)
    if not plan.options.deduplicate:
        taken = np.array([piece.counts.documents for piece in encoded])
        return Found(split_counts(plan, folder, split), taken)
    ranges = plan.layout.ranges() if any(piece.files for piece in encoded) else []
    tasks = [(split, first_bin, end_bin) for first_bin, end_bin in ranges]
    with progress_bar(f"comparing {split}", "bin", plan.layout.bins if tasks else 0) as progress:
        kept = sum(pool.run(_count_kept, tasks, progress.update), KeptDocuments.none(len(plan.pieces)))
    near_duplicates = None if plan.options.near_duplicates is None else kept.near_duplicates
    return Found(kept.counts, kept.taken, kept.duplicates, near_duplicates, kept.bin_sizes)


def _count_kept(work: Work, report: Report, split: str, first_bin: int, end_bin: int) -> KeptDocuments:
    return work.count_kept(split, first_bin, end_bin, report)


def _packed(plan: Plan, pool: Pool, split: str, found: SplitCounts) -> _Packed:
    rows = record_count(found.input_tokens, plan.options.seq_len)
    if stores_documents(plan.options, split):
        return _Packed(found.documents if rows else 0)
    if plan.options.packing not in LOSSY_PACKINGS:
        return _Packed(rows)
    if not found.documents:
        return _Packed(0)
    (losses,) = pool.run(_losses, [(split,)], lambda count: None)
    return _Packed(*losses)


def _losses(work: Work, report: Report, split: str) -> tuple[int, int, int]:
    return work.losses(split)


def _check_records(name: str, records: int, options: RecordOptions, num_shards: int) -> None:
    """Raises `TooFewRecordsError` if there is less than one record for a shard."""
    if records >= num_shards:
        return
    kind = "documents that fill a row " if stores_documents(options, name) else ""
    found = f"the {name} split has {records} {kind}of {options.seq_len} tokens"
    remedy = "use a larger corpus, a smaller --seq_len or fewer --num_shards"
    if name == VAL:
        remedy = "use a larger corpus, a smaller --seq_len, or another --val_fraction (0 holds nothing out)"
    raise TooFewRecordsError(f"a split must have at least {num_shards} records, one a shard, and {found}: {remedy}.")


def _write_split(plan: Plan, folder: WorkFolder, pool: Pool, split: PackedSplit) -> None:
    shards = split.shards
    todo = [index for index in range(shards.count) if folder.shard(plan, split.name, index) is None]
    together = [todo] if plan.options.packing in LOSSY_PACKINGS else [[index] for index in todo]
    tasks = [(split, indices) for indices in together]
    with progress_bar(f"writing {split.name}", "record", shards.total) as progress:
        progress.update(shards.total - sum(shards.size(index) for index in todo))
        pool.run(_write_shards, tasks, progress.update)


def _write_shards(work: Work, report: Report, split: PackedSplit, indices: list[int]) -> None:
    work.write(split, indices, report)


def _entry(folder: WorkFolder, split: str, found: Found, packed: _Packed, shards: Shards, plan: Plan) -> Split:
    entries = tuple(folder.shard(plan, split, index) for index in range(shards.count))
    target_tokens = row_count(entries, plan.options.seq_len) * plan.options.seq_len
    return Split(
        documents=found.counts.documents,
        text_bytes=found.counts.text_bytes,
        input_tokens=found.counts.input_tokens,
        target_tokens=target_tokens,
        tail_tokens=found.counts.input_tokens - target_tokens,
        shards=entries,
        lost_tokens=packed.lost_tokens,
        false_eos=packed.false_eos,
        duplicate_documents=found.duplicate_documents,
        near_duplicate_documents=found.near_duplicate_documents,
    )
