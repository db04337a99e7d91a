"""`ScoringConfig`: on which devices text is scored, and how much of it at once."""

import dataclasses

from algpt2.config.options import at_least, option, require_rules


@dataclasses.dataclass(frozen=True)
class ScoringConfig:
    """On which devices text is scored, and how much of it at once. Neither changes what is scored.

    Raises:
      UserError: a value breaks the rule that the sentence names.
    """

    batch_size: int = option(8, "windows of the model's seq_len in a forward pass", rule=at_least(1))
    tpu: str | None = option(None, "a Cloud TPU's name, `local` on a TPU VM, or grpc://host:port")

    def __post_init__(self) -> None:
        require_rules(self)
