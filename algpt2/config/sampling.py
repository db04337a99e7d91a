"""`SamplingConfig`: how the next token is drawn."""

import dataclasses

from algpt2.config.options import FRACTION_ABOVE_0, TEMPERATURE, at_least, option, require_rules


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How the next token is drawn; each field says what it is in its option's help text.

    Raises:
      UserError: a value breaks the rule that the sentence names.
    """

    max_new_tokens: int = option(100, "most tokens to add to the prompt", rule=at_least(1))
    temperature: float = option(1.0, "divides the logits; 0 always takes the likeliest token", rule=TEMPERATURE)
    top_k: int = option(0, "draw among the k likeliest tokens only; 0 is off", rule=at_least(0))
    top_p: float = option(
        1.0, "draw among the likeliest tokens that together have this probability; 1 is off", rule=FRACTION_ABOVE_0
    )
    seed: int = option(0, "seed of the draws", rule=at_least(0))

    def __post_init__(self) -> None:
        require_rules(self)
