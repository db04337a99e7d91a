"""Which set of parameters each layer application uses: the plans of `attention_sharing` and `feed_forward_sharing`.

A plan is a text, and `parameter_sets` turns it into one number for each application. Applications with the same number
share their parameters. Sets are numbered in the order of their first use, so that equal plans give equal checkpoints.
"""

from collections.abc import Callable, Sequence

from algpt2.errors import UserError, shown

PLANS_TEXT = (
    "none, all, ends or `ends N` (the first and the last N layers are their own), `groups N` (N layers after one "
    "another share), `sequence N`, `cycle N` or `cycle_reversed N` (N sets of parameters in all), or a number for each "
    "layer like `0 1 1 0`, in which each new set has the next number"
)


def parameter_sets(name: str, plan: str, n_layer: int) -> tuple[int, ...]:
    """Returns the number of the set of parameters that each layer application uses, from 0.

    `sequence`, `cycle` and `cycle_reversed` are the three strategies of Takase and Kiyono (arXiv:2104.06022).

    Args:
      name: of the configuration's field, for the error.
      plan: one of `PLANS_TEXT`.
      n_layer: applications.

    Raises:
      UserError: no such plan, or one with more sets than layers.

    Example:

    >>> parameter_sets("attention_sharing", "ends", 5)
    (0, 1, 1, 1, 2)
    >>> parameter_sets("attention_sharing", "cycle_reversed 3", 6)
    (0, 1, 2, 2, 1, 0)
    """
    kind, number, explicit = _parsed(name, plan, n_layer)
    if explicit:
        return explicit
    return _numbered_by_first_use([_PLANS[kind](layer, number, n_layer) for layer in range(n_layer)])


def n_parameter_sets(name: str, plan: str, n_layer: int) -> int:
    """Returns how many sets of parameters a plan has, by arithmetic, so that any number of layers will do.

    Args:
      name: as of `parameter_sets`, like `plan` and `n_layer`, and so is what is raised.
      plan: one of `PLANS_TEXT`.
      n_layer: applications.
    """
    kind, number, explicit = _parsed(name, plan, n_layer)
    return max(explicit) + 1 if explicit else _COUNTS[kind](number, n_layer)


def _parsed(name: str, plan: str, n_layer: int) -> tuple[str, int, tuple[int, ...]]:
    """Returns a plan's kind and its number, and the sets of a plan that lists them."""
    words = plan.split()
    if words and all(word.isascii() and word.isdigit() for word in words):
        return "", 0, _explicit(name, plan, words, n_layer)
    kind, *rest = words or [""]
    number = _number(kind, rest, n_layer)
    if number is None:
        raise UserError(f"{name} must be {PLANS_TEXT}, for {n_layer} layers, received {shown(plan)}.")
    return kind, number, ()


def _ends(layer: int, own: int, n_layer: int) -> int:
    return layer if layer < own or layer >= n_layer - own else own


def _cycle_reversed(layer: int, sets: int, n_layer: int) -> int:
    is_in_last_round = layer >= sets * (-(-n_layer // sets) - 1)
    return sets - 1 - layer % sets if is_in_last_round and layer >= sets else layer % sets


_PLANS: dict[str, Callable[[int, int, int], int]] = {
    "none": lambda layer, _number, _n_layer: layer,
    "all": lambda _layer, _number, _n_layer: 0,
    "ends": _ends,
    "groups": lambda layer, size, _n_layer: layer // size,
    "sequence": lambda layer, sets, n_layer: layer * sets // n_layer,
    "cycle": lambda layer, sets, _n_layer: layer % sets,
    "cycle_reversed": _cycle_reversed,
}
_COUNTS: dict[str, Callable[[int, int], int]] = {
    "none": lambda _number, n_layer: n_layer,
    "all": lambda _number, _n_layer: 1,
    "ends": lambda own, n_layer: min(2 * own + 1, n_layer),
    "groups": lambda size, n_layer: -(-n_layer // size),
    "sequence": lambda sets, _n_layer: sets,
    "cycle": lambda sets, _n_layer: sets,
    "cycle_reversed": lambda sets, _n_layer: sets,
}
_WITHOUT_NUMBER = ("none", "all", "ends")
_WITH_NUMBER = ("ends", "groups", "sequence", "cycle", "cycle_reversed")


def _number(kind: str, rest: list[str], n_layer: int) -> int | None:
    """Returns the N of a plan, 1 where it has none, and None if the plan is not one."""
    if not rest:
        return 1 if kind in _WITHOUT_NUMBER else None
    if kind not in _WITH_NUMBER or len(rest) > 1 or not (rest[0].isascii() and rest[0].isdigit()):
        return None
    most = n_layer // 2 if kind == "ends" else n_layer
    return int(rest[0]) if len(rest[0]) < 10 and 1 <= int(rest[0]) <= most else None


def _explicit(name: str, plan: str, words: list[str], n_layer: int) -> tuple[int, ...]:
    sets = tuple(int(word) for word in words if len(word) < 10)
    if len(sets) != n_layer or sets != _numbered_by_first_use(sets):
        raise UserError(
            f"{name} must have one number for each of {n_layer} layers, each new set of parameters with the next "
            f"number from 0, received {shown(plan)}."
        )
    return sets


def _numbered_by_first_use(sets: Sequence[int]) -> tuple[int, ...]:
    numbers: dict[int, int] = {}
    return tuple(numbers.setdefault(one, len(numbers)) for one in sets)
