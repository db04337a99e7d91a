"""How much disk a preparation takes, said before it starts, and refused where there is surely too little."""

from absl import logging

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.preparation.plan import Plan
from algpt2.storage.local import room_bytes

GIB = 2**30
RECORD_OVERHEAD_BYTES = 40
# The tokens of text are estimated from its bytes, and can be half as many.
SURELY_NEEDED = 0.5


def needed_bytes(plan: Plan) -> int:
    """Returns about how many bytes the sorted documents and the records take, which lie side by side at the end."""
    ids = plan.expected_tokens * plan.layout.dtype.itemsize
    return round(2 * ids + plan.expected_tokens / plan.options.seq_len * RECORD_OVERHEAD_BYTES)


def require_room(plan: Plan, output: str) -> None:
    """Logs how much room a preparation takes, and how much there is in its output folder, with what it already holds.

    Nothing is said of `gs://`.

    Raises:
      UserError: there is less than half of the estimate.
    """
    if storage.is_remote(output):
        return
    need, room = needed_bytes(plan), room_bytes(output)
    sentence = f"records and the work on them take about {_gib(need)}, and {output} has room for {_gib(room)}"
    if room < SURELY_NEEDED * need:
        raise UserError(f"{sentence}: free some, or name another --output.")
    logging.log(logging.INFO if room >= need else logging.WARNING, "%s", sentence)


def _gib(size: int) -> str:
    return f"{size / GIB:.2f} GiB"
