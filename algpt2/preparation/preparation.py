"""Documents to a folder of TFRecord shards: encode, split, shuffle, pack, write, and the manifest last."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any

from algpt2 import storage
from algpt2.config.options import COUNT, require
from algpt2.config.records import DOCUMENTS_FORMAT, RecordOptions
from algpt2.errors import UserError, shown
from algpt2.preparation.beam import BeamJob, InBeam
from algpt2.preparation.disk_space import require_room
from algpt2.preparation.encoding import TRAIN, VAL
from algpt2.preparation.exclusion import excluded_files
from algpt2.preparation.mixture import Input, inputs_of
from algpt2.preparation.outcome import Outcome, outcome_of
from algpt2.preparation.plan import Command, Part, Plan, make_plan
from algpt2.preparation.pool import Pool, workers
from algpt2.preparation.provenance import provenance_of, write_provenance
from algpt2.preparation.removed_list import require_new, write_list
from algpt2.preparation.stages import TooFewRecordsError, encode_pieces, found_documents, split_counts, write_shards
from algpt2.preparation.work_folder import WorkFolder, opened_part, opened_work, require_new_or_unfinished
from algpt2.records.manifest import IDS_FORMAT, Manifest, Split, counts, read_manifest, write_manifest
from algpt2.text.tokenizer import Tokenizer


def make_tfrecords(
    inputs: Sequence[str | Input],
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
      inputs: files, folders and patterns of documents, local or gs://; or `Input`s, which may have weights.
      tokenizer_folder: of the tokenizer.
      output: the new folder, local or gs://.
      options: how documents become records.
      num_workers: processes that share the work; 1 is this process alone.
      merge: whether `encode_part` has encoded the documents already, on other machines.
      beam_job: where Apache Beam does the work, in the place of processes; None without it.

    Returns:
      The manifest's counts, and `tokens_per_second` of the whole run (all input tokens / wall-clock seconds).

    Raises:
      UserError: the output folder already holds something else, or its disk has surely too little room; the file of
        `removed_documents` exists; the tokenizer or the input is wrong; the documents are too few for the split, or for
        the number of shards, that was asked for; or `merge`, and a part is missing.
    """
    start = time.perf_counter()
    plan, tokenizer = _planned(inputs, tokenizer_folder, output, options, num_workers, of_many_machines=merge)
    with opened_work(output, plan) as folder, _tidied(plan, folder):
        was_sealed = folder.is_sealed()
        if not was_sealed:
            require_room(plan, output)
            if merge:
                _require_parts(plan, folder)
            with _pool(num_workers, beam_job, plan, tokenizer, output) as pool:
                encode_pieces(plan, folder, pool)
                found = found_documents(plan, folder, pool)
                splits = write_shards(plan, folder, pool, found)
            tokenizer.save(output)
            outcome = outcome_of(plan, folder, sum(of_split.taken for of_split in found.values()))
            sources_sha256 = write_provenance(output, provenance_of(plan, folder))
            write_manifest(output, _manifest(plan, tokenizer, splits, outcome, sources_sha256))
        if options.removed_documents is not None and not (was_sealed and storage.exists(options.removed_documents)):
            write_list(options.removed_documents, plan, folder)
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
    inputs: Sequence[str | Input],
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
        found = split_counts(mine, folder, TRAIN) + split_counts(mine, folder, VAL)
    return {"shard": str(part), "pieces": len(mine.pieces), **dataclasses.asdict(found)}


def _planned(
    inputs: Sequence[str | Input],
    tokenizer_folder: str,
    output: str,
    options: RecordOptions,
    num_workers: int,
    of_many_machines: bool,
) -> tuple[Plan, Tokenizer]:
    require(COUNT.holds(num_workers), "num_workers", COUNT.text, num_workers)
    require_new_or_unfinished(output)
    if options.removed_documents is not None and not WorkFolder(output).is_sealed():
        require_new(options.removed_documents)
    tokenizer = Tokenizer.load(tokenizer_folder)
    if tokenizer.has_chat_tokens:
        raise UserError(
            f"records of documents need a tokenizer without chat tokens, and {tokenizer_folder} has them: name the one "
            "that it was made from, or make records of conversations with data_tools/make_chat_tfrecords.py."
        )
    command = Command(inputs_of(inputs), tokenizer.sha256, options, excluded_files(options))
    return make_plan(command, tokenizer.vocab_size, of_many_machines), tokenizer


def _require_parts(plan: Plan, folder: WorkFolder) -> None:
    missing = [number for number, named in enumerate(plan.pieces) if folder.encoded_piece(named.name) is None]
    if missing:
        raise UserError(
            f"--merge needs all {len(plan.pieces)} pieces of the input, and {len(missing)} are not encoded: run the "
            f"--shard i/n that lack, which are those with i = {shown(missing[:10])} modulo n."
        )


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


def _manifest(
    plan: Plan, tokenizer: Tokenizer, splits: dict[str, Split], outcome: Outcome, sources_sha256: str
) -> Manifest:
    options = plan.options
    return Manifest(
        seq_len=options.seq_len,
        vocab_size=tokenizer.vocab_size,
        eos_id=tokenizer.eos_id,
        tokenizer_sha256=tokenizer.sha256,
        seed=options.seed,
        val_fraction=options.val_fraction,
        record_format=DOCUMENTS_FORMAT if options.format == DOCUMENTS_FORMAT else IDS_FORMAT,
        packing=options.packing,
        sources_sha256=sources_sha256,
        **outcome._asdict(),
        **splits,
    )
