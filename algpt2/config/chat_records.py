"""`ChatRecordOptions`: how conversations become records."""

import dataclasses

from algpt2.config.options import COUNT, FRACTION_BELOW_1, option, require_rules
from algpt2.config.records import SKIP, STOP, val_shards

CHAT_PACKINGS = PADDED, WHOLE = ("padded", "whole")


@dataclasses.dataclass(frozen=True)
class ChatRecordOptions:
    """How conversations become records; each field says what it is in its option's help text.

    Raises:
      UserError: a value breaks the rule that the sentence names.
    """

    seq_len: int = option(1024, "target tokens a record, and the model's positions", rule=COUNT)
    num_shards: int = option(1, "number of train files", rule=COUNT)
    val_fraction: float = option(
        0.05, "part of the conversations held out as val, from 0 to below 1", rule=FRACTION_BELOW_1
    )
    seed: int = option(0, "decides the order of the conversations")
    packing: str = option(
        PADDED,
        "padded: one conversation a record; whole: as many whole ones as fit, for training with --document_mask",
        CHAT_PACKINGS,
    )
    on_error: str = option(
        STOP,
        "what is done with a line that is no conversation, or one that is too long; skip leaves it out, and counts it",
        (STOP, SKIP),
    )

    def __post_init__(self) -> None:
        require_rules(self)

    @property
    def num_val_shards(self) -> int:
        """The number of `val` files."""
        return val_shards(self.num_shards, self.val_fraction)
