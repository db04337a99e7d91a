"""The learning rate of the original project of 2020, which jumps, so that a study can say what that costs."""

from typing import Any

import keras
from keras import ops

from algpt2.model.tensors import Integer, Tensor


@keras.saving.register_keras_serializable(package="algpt2")
class LegacyRate(keras.optimizers.schedules.LearningRateSchedule):
    """A warm-up, and a linear decay that is counted from the run's first step and not from the warm-up's end.

    With s updates done before, the rate is peak s / warmup_steps for s < warmup_steps, so 0 at first, and then
    peak (f + (1 - f) (1 - s / total_steps)) with f = final_fraction. So it falls at once by (1 - f) warmup_steps /
    total_steps of the peak where the warm-up ends: by a ninth in 2020, with 10,000 of about 90,000 steps and f = 0.
    It is `WarmUp` over Keras' `PolynomialDecay`, in `optimizers_tf.py` of
    https://github.com/bilal2vec/lm-training-research-project at commit 487f818.

    Example:

    >>> from algpt2.optim.legacy_rate import LegacyRate
    >>> schedule = LegacyRate(peak=1.0, warmup_steps=10, total_steps=90, final_fraction=0.0)
    >>> [round(float(schedule(step)), 6) for step in (0, 9, 10, 45)]
    [0.0, 0.9, 0.888889, 0.5]
    """

    def __init__(self, peak: float, warmup_steps: float, total_steps: int, final_fraction: float):
        """Makes the schedule.

        Args:
          peak: the rate that the warm-up goes to, and never has.
          warmup_steps: updates of the warm-up, perhaps a fraction; 0 for none.
          total_steps: updates of the run.
          final_fraction: where the decay ends, one update after the last, as a fraction of the peak.
        """
        super().__init__()
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.final_fraction = final_fraction

    def __call__(self, step: Integer) -> Tensor:
        """Returns the learning rate of the update with this 0-based number, float32, in the shape of `step`."""
        done = ops.cast(step, "float32")
        warmup = done / max(1.0, self.warmup_steps)
        remaining = ops.maximum(0.0, 1.0 - done / self.total_steps)
        decayed = self.final_fraction + (1 - self.final_fraction) * remaining
        return self.peak * ops.where(done < self.warmup_steps, warmup, decayed)

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs."""
        return {
            "peak": self.peak,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
            "final_fraction": self.final_fraction,
        }
