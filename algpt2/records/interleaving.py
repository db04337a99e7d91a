"""Where `tf.data`'s interleave stands after so many elements, so that a new one can begin there.

An interleave has `readers` slots. At its turn a slot gives a block of elements of its shard; then it is the next slot's
turn. A slot whose shard has ended takes the next shard at its next turn. So the place of every slot follows from the
shards' sizes, and nothing has to be read again up to there.
"""

from collections.abc import Sequence
from typing import NamedTuple


class OpenShard(NamedTuple):
    """A shard by its number in the order of reading, and the first of its records that is still to be read."""

    number: int
    first_record: int


class Standing(NamedTuple):
    """Where an interleave stands.

    Attributes:
      shards: what a new interleave of the same slots and block must be given, in this order.
      skip: how many records of that one's first block come before the place.
    """

    shards: tuple[OpenShard, ...]
    skip: int


def standing_at(position: int, records: Sequence[int], readers: int, block: int) -> Standing:
    """Returns where an interleave stands after `position` records.

    Args:
      position: at most as many as all shards hold.
      records: of each shard, in the order of reading.
      readers: slots.
      block: records that a slot gives at its turn.
    """
    slots: list[OpenShard | None] = [None] * readers
    given, turn, unopened = 0, 0, 0
    while True:
        if turn == 0 and None not in slots:
            rounds = _whole_rounds(slots, records, block, position - given)
            slots = [OpenShard(slot.number, slot.first_record + rounds * block) for slot in slots]
            given += rounds * block * readers
        if slots[turn] is None and unopened < len(records):
            slots[turn], unopened = OpenShard(unopened, 0), unopened + 1
        slot = slots[turn]
        size = min(block, records[slot.number] - slot.first_record) if slot else 0
        if given + size > position or (given == position and unopened == len(records)):
            in_turn = [*slots[turn:], *slots[:turn]]
            return Standing(_in_order(in_turn, unopened, len(records)), position - given)
        given += size
        slots[turn] = OpenShard(slot.number, slot.first_record + size) if size == block else None
        turn = (turn + 1) % readers


def _whole_rounds(slots: Sequence[OpenShard], records: Sequence[int], block: int, left: int) -> int:
    """Returns how many rounds all slots give whole blocks in, before `left` records are given."""
    shortest = min(records[slot.number] - slot.first_record for slot in slots)
    return min(shortest // block, left // (block * len(slots)))


def _in_order(in_turn: Sequence[OpenShard | None], unopened: int, total: int) -> tuple[OpenShard, ...]:
    """Returns the shards as a new interleave's slots take them: an empty slot takes one that is not opened yet."""
    waiting = iter(range(unopened, total))
    opened = []
    for slot in in_turn:
        if slot is None:
            number = next(waiting, None)
            slot = None if number is None else OpenShard(number, 0)
        if slot is not None:
            opened.append(slot)
    return (*opened, *(OpenShard(number, 0) for number in waiting))
