"""Learning-rate schedules: a warm-up, then cosine, linear, constant, a cooldown, or a cosine over tokens.

All are continuous. Durations are counted in updates and may be fractional, because they may come from tokens. The whole
part of a duration is subtracted from the update number in int32, which is exact, and only then the rest in float32, so
that nothing is lost in runs of 1e12 tokens.
"""

import math
from typing import Any

import keras
from keras import ops

from algpt2.config.training import COOLDOWN_SHAPES, DECAYS
from algpt2.model.tensors import Integer, Tensor

DECAYS_IN_UPDATES = tuple(decay for decay in DECAYS if decay != "tokens_cosine")


@keras.saving.register_keras_serializable(package="algpt2")
class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """A linear warm-up to the peak, and then a decay that ends with the run.

    Update u, counted from 1, has the rate peak x u / warmup_steps up to u = warmup_steps. From there it decays to
    peak x final_fraction at u = total_steps, so that the last update has exactly that rate (unless it still warms up).
    With decay "wsd" (warm-up, stable, decay: Hu et al. 2024, arXiv:2404.06395) the rate stays at the peak and falls
    only over the last `cooldown_steps` updates, in `cooldown_shape` (1-sqrt: Hägele et al. 2024, arXiv:2405.18392).

    Example:

    >>> from algpt2.optim.schedules import WarmupDecay
    >>> schedule = WarmupDecay(peak=1.0, warmup_steps=10, total_steps=100, decay="cosine", final_fraction=0.1)
    >>> [round(float(schedule(step)), 6) for step in (0, 9, 99)]
    [0.1, 1.0, 0.1]
    """

    def __init__(
        self,
        peak: float,
        warmup_steps: float,
        total_steps: int,
        decay: str,
        final_fraction: float,
        cooldown_steps: int = 0,
        cooldown_shape: str = "linear",
    ):
        """Makes the schedule.

        Args:
          peak: the largest rate.
          warmup_steps: updates of the warm-up, perhaps a fraction; 0 for none.
          total_steps: updates of the run.
          decay: one of `DECAYS_IN_UPDATES`.
          final_fraction: the last update's rate as a fraction of the peak, in [0, 1].
          cooldown_steps: updates of wsd's cooldown.
          cooldown_shape: of wsd's cooldown: one of `COOLDOWN_SHAPES`.

        Raises:
          ValueError: no such decay or shape.
        """
        super().__init__()
        if decay not in DECAYS_IN_UPDATES:
            raise ValueError(f"decay must be one of {DECAYS_IN_UPDATES}, received {decay!r}")
        if cooldown_shape not in COOLDOWN_SHAPES:
            raise ValueError(f"cooldown_shape must be one of {COOLDOWN_SHAPES}, received {cooldown_shape!r}")
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.decay = decay
        self.final_fraction = final_fraction
        self.cooldown_steps = cooldown_steps
        self.cooldown_shape = cooldown_shape

    def __call__(self, step: Integer) -> Tensor:
        """Returns the learning rate of the update with this 0-based number, float32, in the shape of `step`."""
        update = step + 1
        warmup = ops.minimum(1.0, ops.cast(update, "float32") / max(1, self.warmup_steps))
        return self.peak * warmup * self._decayed(update)

    def _decayed(self, update: Integer) -> Tensor | float:
        """Returns the rate of an update, counted from 1, as a fraction of the peak, but for the warm-up."""
        if self.decay == "constant":
            return 1.0
        start = self.total_steps - self.cooldown_steps if self.decay == "wsd" else self.warmup_steps
        remaining = self._remaining(progress_between(update, start, self.total_steps))
        return self.final_fraction + (1 - self.final_fraction) * remaining

    def _remaining(self, progress: Tensor) -> Tensor:
        """Returns what is left of the way from the peak to the final rate, from 1 at progress 0 to 0 at progress 1."""
        if self.decay == "cosine":
            return 0.5 + 0.5 * ops.cos(math.pi * progress)
        if self.decay == "wsd" and self.cooldown_shape == "1-sqrt":
            return 1.0 - ops.sqrt(progress)
        return 1.0 - progress

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs."""
        return {
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
            "decay": self.decay,
            "final_fraction": self.final_fraction,
            "cooldown_steps": self.cooldown_steps,
            "cooldown_shape": self.cooldown_shape,
        }


@keras.saving.register_keras_serializable(package="algpt2")
class TokensCosine(keras.optimizers.schedules.LearningRateSchedule):
    """A warm-up and a cosine decay over the tokens seen before an update, however long the run is (decoder-llm's).

    With s updates done before, a = warmup_steps, b = decay_steps and f = final_fraction, the rate is
    peak (f + (1 - f) s / a) for s < a, then peak ((1 + f) / 2 + (1 - f) / 2 cos(pi (s - a) / (b - a))) for s < b, and
    then peak f. So it begins at peak f, not at 0.

    Example:

    >>> from algpt2.optim.schedules import TokensCosine
    >>> schedule = TokensCosine(peak=1.0, warmup_steps=10, decay_steps=100, final_fraction=0.1)
    >>> [round(float(schedule(step)), 6) for step in (0, 10, 100, 500)]
    [0.1, 1.0, 0.1, 0.1]
    """

    def __init__(self, peak: float, warmup_steps: float, decay_steps: float, final_fraction: float):
        """Makes the schedule.

        Args:
          peak: the largest rate.
          warmup_steps: tokens of the warm-up / tokens of an update, perhaps a fraction; 0 for none.
          decay_steps: tokens from the run's start to the decay's end / tokens of an update, perhaps a fraction.
          final_fraction: first and last rate as a fraction of the peak, in [0, 1].
        """
        super().__init__()
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.decay_steps = decay_steps
        self.final_fraction = final_fraction

    def __call__(self, step: Integer) -> Tensor:
        """Returns the learning rate of the update with this 0-based number, float32, in the shape of `step`."""
        warmup = progress_between(step, 0.0, self.warmup_steps) if self.warmup_steps else 1.0
        falling = 0.5 - 0.5 * ops.cos(math.pi * progress_between(step, self.warmup_steps, self.decay_steps))
        return self.peak * (self.final_fraction + (1 - self.final_fraction) * (warmup - falling))

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs."""
        return {
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "decay_steps": self.decay_steps,
            "final_fraction": self.final_fraction,
        }


def progress_between(count: Integer, start: float, end: float) -> Tensor:
    """Returns float32 (count - start) / (end - start), held to [0, 1].

    Args:
      count: whole numbers, of an integer dtype.
      start: where it is 0.
      end: where it is 1. If it is the same as `start`, the progress is 0 up to there.
    """
    whole = math.floor(start)
    elapsed = ops.cast(count - whole, "float32") - (start - whole)
    return ops.clip(elapsed / ((end - start) or 1.0), 0.0, 1.0)
