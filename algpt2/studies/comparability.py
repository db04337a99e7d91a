"""Whether the cells of a study may stand beside each other: same tokens, data and tokenizer."""

from collections.abc import Callable, Iterable

from algpt2.errors import UserError
from algpt2.studies.results import FINISHED, CellResult, Study


def require_comparable(study: Study) -> None:
    """Refuses a study of whose finished cells two were trained or measured differently.

    All must have as many training tokens, one tokenizer and one validation set. The training records must be the same
    wherever arms name the same `records` in the spec, and wherever they name none.

    Raises:
      UserError: they are not.
    """
    results = finished(study)
    _require_one(results, "training tokens", lambda one: one.tokens)
    _require_one(results, "tokenizer", lambda one: one.tokenizer_sha256)
    _require_one(results, "validation data", lambda one: one.val_fingerprint)
    for records in dict.fromkeys(arm.records for arm in study.spec.arms):
        of_records = [one for one in results if study.spec.arm(one.cell.arm).records == records]
        _require_one(of_records, "training data", lambda one: one.train_fingerprint)


def finished(study: Study) -> list[CellResult]:
    """Returns the results of the cells that have finished."""
    return [one for one in study.results if one.status == FINISHED]


def train_on_the_same(results: Iterable[CellResult]) -> bool:
    """Returns whether cells had the same training records."""
    return len({one.train_fingerprint for one in results}) == 1


def _require_one(results: Iterable[CellResult], what: str, value: Callable[[CellResult], object]) -> None:
    first: CellResult | None = None
    for one in results:
        first = first or one
        if value(one) != value(first):
            raise UserError(
                f"cells that are compared must have the same {what}, and {first.cell.name} has {value(first)} where "
                f"{one.cell.name} has {value(one)}: give each its own study, or move away the results of one."
            )
