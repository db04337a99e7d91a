"""Documents to a folder of TFRecord shards: encode, split, shuffle, pack, write, and the manifest last."""

import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from algpt2.config.options import COUNT, require
from algpt2.config.records import LOSSY_PACKINGS, SKIP, RecordOptions
from algpt2.errors import UserError, shown
from algpt2.preparation.beam import BeamJob, InBeam
from algpt2.preparation.disk_space import require_room
from algpt2.preparation.encoding import TRAIN, VAL, SplitCounts
from algpt2.preparation.packing import record_count
from algpt2.preparation.plan import Command, Part, Plan, make_plan
from algpt2.preparation.pool import Pool, workers
from algpt2.preparation.provenance import provenance_of, write_provenance
from algpt2.preparation.work import KeptDocuments, PackedSplit, Report, Shards, Work
from algpt2.preparation.work_folder import WorkFolder, opened_part, opened_work, require_new_or_unfinished
from algpt2.progress import progress_bar
from algpt2.records.manifest import Manifest, Split, counts, read_manifest, write_manifest
from algpt2.text.faults import FaultCounts
from algpt2.text.tokenizer import Tokenizer

SHARDS_OF = {TRAIN: "num_shards", VAL: "num_val_shards"}
MOST_RANGES_OF_BINS = 256


def make_tfrecords(
    inputs: Sequence[str],
    tokenizer_folder: str,
    output: str,
    options: RecordOptions,
    num_workers: int = 1,
    merge: bool = False,
    beam_job: BeamJob | None = None,
) -> dict[str, Any]:
    """Writes `train-*` and `val-*` shards, the tokenizer's files and `manifest.json` to a new folder.

    The files are the same, byte for byte, for the same documents in any order and for any number of processes. Exact
    copies of a document land in the same split. A folder that a killed call with the same arguments left behind is gone
    on with.

    Args:
      inputs: files, folders and patterns of documents, local or gs://.
      tokenizer_folder: of the tokenizer.
      output: the new folder, local or gs://.
      options: how documents become records.
      num_workers: processes that share the work; 1 is this process alone.
      merge: whether `encode_part` has encoded the documents already, on other machines.
      beam_job: where Apache Beam does the work, in the place of processes; None without it.

    Returns:
      The manifest's counts, and `tokens_per_second` of the whole run (all input tokens / wall-clock seconds).

    Raises:
      UserError: the output folder already holds something else, or its disk has surely too little room; the tokenizer
        or the input is wrong; the documents are too few for the split, or for the number of shards, that was asked for;
        or `merge`, and a part is missing.
    """
    start = time.perf_counter()
    plan, tokenizer = _planned(inputs, tokenizer_folder, output, options, num_workers, of_many_machines=merge)
    with opened_work(output, plan) as folder, _tidied(plan, folder):
        if not folder.is_sealed():
            require_room(plan, output)
            if merge:
                _require_parts(plan, folder)
            with _pool(num_workers, beam_job, plan, tokenizer, output) as pool:
                encode_pieces(plan, folder, pool)
                splits = write_shards(plan, folder, pool)
            tokenizer.save(output)
            sources_sha256 = write_provenance(output, provenance_of(plan, folder))
            manifest = _manifest(plan, tokenizer, splits, _skipped(plan, folder))
            write_manifest(output, dataclasses.replace(manifest, sources_sha256=sources_sha256))
        folder.delete()
    manifest = read_manifest(output)
    tokens = manifest.train.input_tokens + manifest.val.input_tokens
    return {**counts(manifest), "tokens_per_second": round(tokens / (time.perf_counter() - start))}


def _pool(
    num_workers: int, beam_job: BeamJob | None, plan: Plan, tokenizer: Tokenizer, output: str
) -> contextlib.AbstractContextManager[Pool]:
    if beam_job is not None:
        return contextlib.nullcontext(InBeam(beam_job, plan, tokenizer, output))
    return workers(min(num_workers, len(plan.pieces)), plan, tokenizer, output)


def encode_part(
    inputs: Sequence[str],
    tokenizer_folder: str,
    output: str,
    options: RecordOptions,
    num_workers: int,
    part: Part,
) -> dict[str, Any]:
    """Encodes the documents of one of several parts of the input, for `make_tfrecords` with `merge` to go on from.

    Every machine must see the input under the same names, and `output`, which they share.

    Returns:
      The part, how many `pieces` of the input are in it, and the counts of its documents.

    Raises:
      UserError: as `make_tfrecords`; or another process does this part.
    """
    plan, tokenizer = _planned(inputs, tokenizer_folder, output, options, num_workers, of_many_machines=True)
    mine = dataclasses.replace(plan, pieces=plan.pieces[part.index :: part.count])
    with opened_part(output, plan, part) as folder:
        with workers(max(1, min(num_workers, len(mine.pieces))), mine, tokenizer, output) as pool:
            encode_pieces(mine, folder, pool)
        found = _counts(mine, folder, TRAIN) + _counts(mine, folder, VAL)
    return {"shard": str(part), "pieces": len(mine.pieces), **dataclasses.asdict(found)}


def _planned(
    inputs: Sequence[str],
    tokenizer_folder: str,
    output: str,
    options: RecordOptions,
    num_workers: int,
    of_many_machines: bool,
) -> tuple[Plan, Tokenizer]:
    require(COUNT.holds(num_workers), "num_workers", COUNT.text, num_workers)
    require_new_or_unfinished(output)
    tokenizer = Tokenizer.load(tokenizer_folder)
    command = Command(tuple(inputs), tokenizer.sha256, options)
    return make_plan(command, tokenizer.vocab_size, of_many_machines), tokenizer


def _require_parts(plan: Plan, folder: WorkFolder) -> None:
    missing = [number for number, named in enumerate(plan.pieces) if folder.encoded_piece(named.name) is None]
    if missing:
        raise UserError(
            f"--merge needs all {len(plan.pieces)} pieces of the input, and {len(missing)} are not encoded: run the "
            f"--shard i/n that lack, which are those with i = {shown(missing[:10])} modulo n."
        )


class TooFewRecordsError(UserError):
    """The documents fill too few records."""


class _Found(NamedTuple):
    """The documents of a split: their counts, and of copies that are left out their number and what they leave."""

    counts: SplitCounts
    duplicate_documents: int | None = None
    bin_sizes: np.ndarray | None = None


class _Packed(NamedTuple):
    """What the documents of a split come to: their records, and what the packing loses (`Split`)."""

    records: int
    lost_tokens: int = 0
    false_eos: int = 0


@contextlib.contextmanager
def _tidied(plan: Plan, folder: WorkFolder) -> Iterator[None]:
    """Deletes unfinished work after an error that came before any of it was worth keeping."""
    try:
        yield
    except TooFewRecordsError:
        folder.delete()
        raise
    except (UserError, OSError):
        if all(folder.encoded_piece(named.name) is None for named in plan.pieces):
            folder.delete()
        raise


def encode_pieces(plan: Plan, folder: WorkFolder, pool: Pool) -> None:
    """Encodes the pieces of a plan that are not encoded yet."""
    todo = [number for number, named in enumerate(plan.pieces) if folder.encoded_piece(named.name) is None]
    left = sum(plan.pieces[number].piece.size_bytes for number in todo)
    with progress_bar("tokenising", "B", plan.input_bytes) as progress:
        progress.update(plan.input_bytes - left)
        pool.run(_encode_piece, [(number,) for number in todo], progress.update)


def _encode_piece(work: Work, report: Report, number: int) -> None:
    work.encode(number, report)


def write_shards(plan: Plan, folder: WorkFolder, pool: Pool) -> dict[str, Split]:
    """Writes the shards of a plan that are not written yet; returns the splits' entries in a manifest.

    Raises:
      UserError: the documents, all of which are encoded, are too few for the shards.
    """
    found = {split: _found(plan, folder, pool, split) for split in (TRAIN, VAL)}
    if not any(of_split.counts.documents for of_split in found.values()):
        raise TooFewRecordsError("the input must hold at least one document and it holds none: name other files.")
    packed = {split: _packed(plan, pool, split, of_split.counts) for split, of_split in found.items()}
    shards = {split: Shards(packed[split].records, getattr(plan.options, SHARDS_OF[split])) for split in found}
    for split in found:
        _check_records(split, packed[split].records, plan.options.seq_len, shards[split].count)
    for split in found:
        _write_split(plan, folder, pool, PackedSplit(split, shards[split], found[split].bin_sizes))
    return {split: _entry(folder, split, found[split], packed[split], shards[split], plan) for split in found}


def _counts(plan: Plan, folder: WorkFolder, split: str) -> SplitCounts:
    pieces = (getattr(folder.encoded_piece(named.name), split) for named in plan.pieces)
    return sum((piece.counts for piece in pieces), SplitCounts())


def _found(plan: Plan, folder: WorkFolder, pool: Pool, split: str) -> _Found:
    encoded = _counts(plan, folder, split)
    if not plan.options.deduplicate:
        return _Found(encoded)
    bins = plan.layout.bins if encoded.documents else 0
    step = -(-plan.layout.bins // MOST_RANGES_OF_BINS)
    tasks = [(split, first, min(first + step, bins)) for first in range(0, bins, step)]
    with progress_bar(f"comparing {split}", "bin", bins) as progress:
        kept = sum(pool.run(_count_kept, tasks, progress.update), KeptDocuments.none())
    return _Found(kept.counts, encoded.documents - kept.counts.documents, kept.bin_sizes)


def _count_kept(work: Work, report: Report, split: str, first_bin: int, end_bin: int) -> KeptDocuments:
    return work.count_kept(split, first_bin, end_bin, report)


def _packed(plan: Plan, pool: Pool, split: str, found: SplitCounts) -> _Packed:
    if plan.options.packing not in LOSSY_PACKINGS:
        return _Packed(record_count(found.input_tokens, plan.options.seq_len))
    if not found.documents:
        return _Packed(0)
    (losses,) = pool.run(_losses, [(split,)], lambda count: None)
    return _Packed(*losses)


def _losses(work: Work, report: Report, split: str) -> tuple[int, int, int]:
    return work.losses(split)


def _check_records(name: str, records: int, seq_len: int, num_shards: int) -> None:
    """Raises `TooFewRecordsError` if there is less than one record for a shard."""
    if records >= num_shards:
        return
    found = f"the {name} split has {records} of {seq_len} tokens"
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


def _entry(folder: WorkFolder, split: str, found: _Found, packed: _Packed, shards: Shards, plan: Plan) -> Split:
    entries = tuple(folder.shard(plan, split, index) for index in range(shards.count))
    target_tokens = sum(shard.records for shard in entries) * plan.options.seq_len
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
    )


def _skipped(plan: Plan, folder: WorkFolder) -> dict[str, int] | None:
    """Returns how many faults of the input were skipped, by kind, and warns of them; None where none may be."""
    if plan.options.on_error != SKIP:
        return None
    pieces = [folder.encoded_piece(named.name) for named in plan.pieces]
    counts = sum((Counter(piece.skipped) for piece in pieces), Counter())
    first = {kind: sentence for piece in reversed(pieces) for kind, sentence in piece.first_skipped.items()}
    return FaultCounts(counts, first).told()


def _manifest(plan: Plan, tokenizer: Tokenizer, splits: dict[str, Split], skipped: dict[str, int] | None) -> Manifest:
    options = plan.options
    return Manifest(
        seq_len=options.seq_len,
        vocab_size=tokenizer.vocab_size,
        eos_id=tokenizer.eos_id,
        tokenizer_sha256=tokenizer.sha256,
        seed=options.seed,
        val_fraction=options.val_fraction,
        packing=options.packing,
        skipped=skipped,
        **splits,
    )
