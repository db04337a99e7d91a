"""What negative log-likelihood is turned into. One home for each formula."""

import math


def perplexity(total_nats: float, units: int) -> float:
    """Returns exp(nats per unit): per token or per word, as the unit says; infinite where a float cannot hold it."""
    try:
        return math.exp(total_nats / units)
    except OverflowError:
        return math.inf


def bits_per_byte(total_nats: float, utf8_bytes: int) -> float:
    """Returns the bits that a model needs for one byte of the text it scored: total nats / (ln 2 x bytes)."""
    return total_nats / (math.log(2) * utf8_bytes)
