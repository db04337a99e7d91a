"""`SamplingConfig`: how the next token is drawn. `GenerationConfig`: how many texts are made at once."""

import dataclasses

from algpt2.config.options import (
    FRACTION,
    FRACTION_ABOVE_0,
    TEMPERATURE,
    Rule,
    at_least,
    count,
    option,
    require_rules,
)

MOST_SAMPLES = 1000
# A factor of logits that leaves them finite in float32.
_PENALTY = Rule("from 0.01 to 100", lambda value: 0.01 <= value <= 100)


@dataclasses.dataclass(frozen=True)
class SamplingConfig:
    """How the next token is drawn; each field says what it is in its option's help text.

    The repetition penalty comes first, then the temperature, `top_k`, `top_p`, `min_p` and `typical_p`, each of which
    sees what those before it left. That is the order of Hugging Face's `generate`.

    Raises:
      UserError: a value breaks the rule that the sentence names.
    """

    max_new_tokens: int = option(100, "most tokens to add to the prompt", rule=at_least(1))
    temperature: float = option(1.0, "divides the logits; 0 always takes the likeliest token", rule=TEMPERATURE)
    top_k: int = option(0, "draw among the k likeliest tokens only; 0 is off", rule=count(0))
    top_p: float = option(
        1.0, "draw among the likeliest tokens that together have this probability; 1 is off", rule=FRACTION_ABOVE_0
    )
    min_p: float = option(
        0.0, "draw among tokens at least this fraction as likely as the likeliest; 0 is off", rule=FRACTION
    )
    typical_p: float = option(
        1.0,
        "draw among the tokens of the most typical information that together have this probability; 1 is off",
        rule=FRACTION_ABOVE_0,
    )
    repetition_penalty: float = option(
        1.0, "above 1 makes tokens that the text has already less likely; 1 is off", rule=_PENALTY
    )
    seed: int = option(0, "seed of the draws", rule=count(0))

    def __post_init__(self) -> None:
        require_rules(self)


@dataclasses.dataclass(frozen=True)
class GenerationConfig:
    """How many texts are made, and how many of them at once.

    Raises:
      UserError: a value breaks the rule that the sentence names.
    """

    samples: int = option(1, "texts for each prompt", rule=count(1, MOST_SAMPLES + 1))
    batch_size: int = option(8, "most texts that are made at once", rule=at_least(1))

    def __post_init__(self) -> None:
        require_rules(self)
