"""Learning-rate schedules: linear warm-up, then cosine, linear or constant. Continuous everywhere."""

import math
from typing import Any

import keras
from keras import ops

from algpt2.train_config import DECAYS


class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate of the update with 0-based number `step`.

    Update u = step + 1 has peak x u / warmup_steps up to u = warmup_steps, then decays from peak at u = warmup_steps
    to peak x final_fraction at u = total_steps: the last update has exactly that (unless it still warms up).
    """

    def __init__(self, peak: float, warmup_steps: int, total_steps: int, decay: str, final_fraction: float):
        super().__init__()
        if decay not in DECAYS:
            raise ValueError(f"decay must be one of {DECAYS}, received {decay!r}")
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.decay = decay
        self.final_fraction = final_fraction

    def __call__(self, step: Any) -> Any:
        """Returns a float32 scalar."""
        update = ops.cast(step, "float32") + 1.0
        warmup = ops.minimum(1.0, update / max(1, self.warmup_steps))
        return self.peak * warmup * self._decayed(update)

    def _decayed(self, update: Any) -> Any:
        if self.decay == "constant":
            return 1.0
        progress = ops.clip((update - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps), 0.0, 1.0)
        remaining = 1.0 - progress if self.decay == "linear" else 0.5 + 0.5 * ops.cos(math.pi * progress)
        return self.final_fraction + (1 - self.final_fraction) * remaining

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs."""
        return {
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
            "decay": self.decay,
            "final_fraction": self.final_fraction,
        }
