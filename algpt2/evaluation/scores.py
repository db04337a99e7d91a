"""The figures that negative log-likelihoods are turned into. Each formula has its one home here."""

import dataclasses
import math


def perplexity(total_nats: float, units: int) -> float:
    """Returns exp(total_nats / units), infinite where a float cannot hold it.

    Args:
      total_nats: negative log-likelihood of a whole text.
      units: its number of tokens for perplexity per token, of words for perplexity per word.
    """
    try:
        return math.exp(total_nats / units)
    except OverflowError:
        return math.inf


def bits_per_byte(total_nats: float, utf8_bytes: int) -> float:
    """Returns the bits that a model needs for one byte of a text: total_nats / (ln 2 x utf8_bytes)."""
    return total_nats / (math.log(2) * utf8_bytes)


@dataclasses.dataclass(frozen=True)
class Loss:
    """Negative log-likelihood of `tokens` target tokens that spell `text_bytes` UTF-8 bytes."""

    total_nats: float
    tokens: int
    text_bytes: int

    def as_metrics(self, prefix: str = "val_") -> dict[str, float]:
        """Returns loss in nats per token, perplexity per token, and bits per byte; `prefix` begins their names."""
        return {
            f"{prefix}loss": self.total_nats / self.tokens,
            f"{prefix}perplexity": perplexity(self.total_nats, self.tokens),
            f"{prefix}bits_per_byte": bits_per_byte(self.total_nats, self.text_bytes),
        }
