"""Inputs with weights: how often the documents of each are taken, which hashes of them decide."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from algpt2.config.options import require
from algpt2.errors import UserError

LARGEST_WEIGHT = 1000


@dataclasses.dataclass(frozen=True)
class Input:
    """Documents that are taken equally often.

    Attributes:
      paths: files, folders and patterns of documents, local or gs://.
      weight: how often each is taken: 2 is twice, 0.5 a half of them once, 2.5 each twice and a half of them a third
        time. None is once, in a preparation without weights.

    Raises:
      UserError: a weight that is not above 0, or larger than `LARGEST_WEIGHT`.
    """

    paths: tuple[str, ...]
    weight: float | None = None

    def __post_init__(self) -> None:
        is_weight = self.weight is None or 0 < self.weight <= LARGEST_WEIGHT
        require(is_weight, "weight", f"above 0 and at most {LARGEST_WEIGHT}", self.weight)

    @property
    def copies(self) -> int:
        """How many copies of a document are taken at most."""
        return 1 if self.weight is None else math.ceil(self.weight)

    def is_taken(self, keys: np.ndarray, copy: int) -> np.ndarray:
        """Returns which documents a copy is taken of, bool (N,).

        The larger the weight, the more: what a smaller weight takes, a larger one takes too.

        Args:
          keys: the order keys of these copies, uint64 (N, 2). Their second halves decide, which are as good as random
            numbers and have no part in the order of documents.
          copy: 0 is the document itself, 1 its second copy.
        """
        share = (1.0 if self.weight is None else self.weight) - copy
        if share >= 1:
            return np.ones(len(keys), bool)
        return keys[:, 1] < np.uint64(max(0.0, share) * 2**64)


def inputs_of(inputs: Sequence[str | Input]) -> tuple[Input, ...]:
    """Returns inputs, where paths are one input without a weight.

    Raises:
      UserError: some have a weight and others none.
    """
    paths = tuple(one for one in inputs if isinstance(one, str))
    named = (*([Input(paths)] if paths else []), *(one for one in inputs if isinstance(one, Input)))
    if len({one.weight is None for one in named}) > 1:
        raise UserError("weight must be given for every input or for none: give those without one the weight 1.")
    return named


def weighted_inputs(groups: Sequence[Sequence[str]], weights: Sequence[float] = ()) -> tuple[Input, ...]:
    """Returns the inputs of a command line: each `--input` with its `--weight`, or all as one without weights.

    Raises:
      UserError: there are weights, and not one for each input; or one is wrong.
    """
    if not weights:
        return (Input(tuple(path for group in groups for path in group)),)
    if len(weights) != len(groups):
        raise UserError(
            f"weight must be given once for each --input or not at all, received {len(weights)} for {len(groups)}: "
            "repeat --input PATH --weight NUMBER."
        )
    return tuple(Input(tuple(group), weight) for group, weight in zip(groups, weights, strict=True))


def moved_inputs(inputs: Sequence[Input], groups: Sequence[Sequence[str]]) -> tuple[Input, ...]:
    """Returns inputs, with their weights, whose documents lie elsewhere now.

    Args:
      inputs: as they were.
      groups: for each of them in their order where its documents lie now; for one input, all groups are its.

    Raises:
      UserError: there is not one group for each.
    """
    if len(inputs) == 1:
        groups = [[path for group in groups for path in group]]
    if len(groups) != len(inputs):
        raise UserError(
            f"--sources must be given once for each --input that has a weight, in their order, received {len(groups)} "
            f"for {len(inputs)}: repeat --sources PATH."
        )
    return tuple(dataclasses.replace(one, paths=tuple(group)) for one, group in zip(inputs, groups, strict=True))
