"""Learning-rate schedules: warm-up, then cosine, linear, constant, a cooldown, or a cosine over tokens. Continuous.

Durations are counted in updates and may be fractional, because they may come from tokens. A fraction of a duration is
taken from a whole number of updates, exact in int32, so that float32 loses nothing in runs of 1e12 tokens.
"""

import math
from typing import Any

import keras
from keras import ops

from algpt2.config.training import COOLDOWN_SHAPES, DECAYS

DECAYS_IN_UPDATES = tuple(decay for decay in DECAYS if decay != "tokens_cosine")


class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate of the update with 0-based number `step`.

    Update u = step + 1 has peak x u / warmup_steps up to u = warmup_steps, then decays from peak at u = warmup_steps
    to peak x final_fraction at u = total_steps: the last update has exactly that (unless it still warms up). With
    decay "wsd" it stays at peak (warm-up, stable, decay: Hu et al. 2024, arXiv:2404.06395) and falls only over the
    last `cooldown_steps` updates, by `cooldown_shape` (1-sqrt: Hägele et al. 2024, arXiv:2405.18392).
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

    def __call__(self, step: Any) -> Any:
        """Returns a float32 scalar."""
        update = step + 1
        warmup = ops.minimum(1.0, ops.cast(update, "float32") / max(1, self.warmup_steps))
        return self.peak * warmup * self._decayed(update)

    def _decayed(self, update: Any) -> Any:
        if self.decay == "constant":
            return 1.0
        start = self.total_steps - self.cooldown_steps if self.decay == "wsd" else self.warmup_steps
        remaining = self._remaining(progress_between(update, start, self.total_steps))
        return self.final_fraction + (1 - self.final_fraction) * remaining

    def _remaining(self, progress: Any) -> Any:
        """0 to 1 of the decay -> 1 to 0."""
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


class TokensCosine(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate of the update with 0-based number `step`, as a function of the tokens seen BEFORE it.

    With s = step, a = warmup_steps, b = decay_steps (both tokens / tokens per update) and f = final_fraction:
    s < a: peak (f + (1 - f) s / a); a <= s < b: peak ((1 + f) / 2 + (1 - f) / 2 cos(pi (s - a) / (b - a)));
    then peak f. It begins at f, not at 0, and does not depend on the run's length.
    """

    def __init__(self, peak: float, warmup_steps: float, decay_steps: float, final_fraction: float):
        super().__init__()
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.decay_steps = decay_steps
        self.final_fraction = final_fraction

    def __call__(self, step: Any) -> Any:
        """Returns a float32 scalar."""
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


def progress_between(count: Any, start: float, end: float) -> Any:
    """Returns float32 (count - start) / (end - start), held to [0, 1].

    Args:
      count: whole numbers, of an integer dtype.
      start: where it is 0.
      end: where it is 1; the same as `start`, it is 0 up to there.
    """
    whole = math.floor(start)
    elapsed = ops.cast(count - whole, "float32") - (start - whole)
    return ops.clip(elapsed / ((end - start) or 1.0), 0.0, 1.0)
