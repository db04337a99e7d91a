"""`SamplingConfig`: how the next token is drawn."""

import dataclasses

from algpt2.config.options import option
from algpt2.errors import UserError


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How the next token is drawn.

    Raises:
      UserError: a value breaks the rule that the sentence names.
    """

    max_new_tokens: int = option(100, "most tokens to add to the prompt")
    temperature: float = option(1.0, "divides the logits; 0 always takes the likeliest token")
    top_k: int = option(0, "draw among the k likeliest tokens only; 0 is off")
    top_p: float = option(1.0, "draw among the likeliest tokens that together have this probability; 1 is off")
    seed: int = option(0, "seed of the draws")

    def __post_init__(self) -> None:
        rules = {
            "max_new_tokens": (self.max_new_tokens >= 1, "at least 1"),
            "temperature": (self.temperature == 0 or 0.01 <= self.temperature < 100, "0, or from 0.01 to 100"),
            "top_k": (self.top_k >= 0, "at least 0"),
            "top_p": (0 < self.top_p <= 1, "in (0, 1]"),
            "seed": (self.seed >= 0, "at least 0"),
        }
        for name, (holds, rule) in rules.items():
            if not holds:
                raise UserError(f"{name} must be {rule}, received {getattr(self, name)}.")
