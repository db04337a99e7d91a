"""What negative log-likelihood is turned into. Each formula has its one home here."""

import dataclasses
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


@dataclasses.dataclass(frozen=True)
class Loss:
    """Negative log-likelihood of `tokens` target tokens that spell `text_bytes` UTF-8 bytes."""

    total_nats: float
    tokens: int
    text_bytes: int

    def as_metrics(self, prefix: str = "val_") -> dict[str, float]:
        """Returns loss in nats per token, perplexity per token, and bits per byte, with a prefix to their names."""
        return {
            f"{prefix}loss": self.total_nats / self.tokens,
            f"{prefix}perplexity": perplexity(self.total_nats, self.tokens),
            f"{prefix}bits_per_byte": bits_per_byte(self.total_nats, self.text_bytes),
        }


# Of the last weights, "validation", and of their moving average, "ema validation", where there is one.
Losses = dict[str, Loss]
VALIDATION, EMA_VALIDATION = "validation", "ema validation"
METRIC_PREFIXES = {VALIDATION: "val_", EMA_VALIDATION: "ema_val_"}


def as_metrics(losses: Losses) -> dict[str, float]:
    """Returns the figures of all losses, those of the moving average as `ema_val_loss` and so on."""
    metrics = {}
    for name, loss in losses.items():
        metrics |= loss.as_metrics(METRIC_PREFIXES[name])
    return metrics
