"""What came of the input, from what its encoded pieces say, for the manifest."""

from collections import Counter
from typing import NamedTuple

import numpy as np

from algpt2.config.records import SKIP
from algpt2.preparation.encoding import EncodedSplit
from algpt2.preparation.plan import Plan
from algpt2.preparation.work_folder import WorkFolder
from algpt2.records.input_counts import Exclusion, MixtureInput
from algpt2.text.documents import NO_DOCUMENT
from algpt2.text.faults import FaultCounts


class Outcome(NamedTuple):
    """What the manifest says of the input, in its words (`Manifest`)."""

    skipped: dict[str, int] | None
    mixture: tuple[MixtureInput, ...] | None
    exclusion: Exclusion | None


def encoded_pieces(plan: Plan, folder: WorkFolder, split: str) -> list[EncodedSplit]:
    """Returns the documents of a split in each piece."""
    return [getattr(folder.encoded_piece(named.name), split) for named in plan.pieces]


def none_taken(plan: Plan, folder: WorkFolder) -> str:
    """Returns the sentence that says why no document is taken."""
    found = sum(folder.encoded_piece(named.name).documents for named in plan.pieces)
    if found:
        return (
            f"at least one document must be left to make records of, and of {found} none is: give larger weights, or "
            "exclude fewer."
        )
    return NO_DOCUMENT


def outcome_of(plan: Plan, folder: WorkFolder, taken: np.ndarray) -> Outcome:
    """Returns what came of the input, and warns of what was skipped.

    Args:
      plan: of the preparation.
      folder: which has its encoded pieces.
      taken: how many documents of each piece are in the records, int64 (pieces,).
    """
    return Outcome(_skipped(plan, folder), _mixture(plan, folder, taken), _exclusion(plan, folder))


def _skipped(plan: Plan, folder: WorkFolder) -> dict[str, int] | None:
    """Returns how many faults of the input were skipped, by kind, and warns of them; None where none may be."""
    if plan.options.on_error != SKIP:
        return None
    pieces = [folder.encoded_piece(named.name) for named in plan.pieces]
    counts = sum((Counter(piece.skipped) for piece in pieces), Counter())
    first = {kind: sentence for piece in reversed(pieces) for kind, sentence in piece.first_skipped.items()}
    return FaultCounts(counts, first).told()


def _exclusion(plan: Plan, folder: WorkFolder) -> Exclusion | None:
    """Returns how many documents were left out because of their n-grams; None where none may be."""
    files = plan.command.excluded_files
    documents = sum(folder.encoded_piece(named.name).excluded for named in plan.pieces)
    return Exclusion(plan.options.ngram_words, files, documents) if files else None


def _mixture(plan: Plan, folder: WorkFolder, taken: np.ndarray) -> tuple[MixtureInput, ...] | None:
    """Returns what was found and taken of each input; None if they have no weights."""
    inputs = plan.command.inputs
    if any(one.weight is None for one in inputs):
        return None
    numbers = [named.input for named in plan.pieces]
    found = [folder.encoded_piece(named.name).documents for named in plan.pieces]
    documents, of_input = np.zeros(len(inputs), np.int64), np.zeros(len(inputs), np.int64)
    np.add.at(documents, numbers, found)
    np.add.at(of_input, numbers, taken)
    return tuple(
        MixtureInput(one.paths, float(one.weight), int(count), int(count_taken))
        for one, count, count_taken in zip(inputs, documents, of_input, strict=True)
    )
