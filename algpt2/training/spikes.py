"""Updates that would do harm: a loss or gradient norm that is not finite, or far above those of the recent steps."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from keras import ops

from algpt2.config.training import TrainConfig

LOSS_ROW, NORM_ROW = 0, 1
Array = np.ndarray | tf.Tensor


def is_spike(window: Array, loss: Array, norm: Array, n_stddevs: float) -> tf.Tensor:
    """Returns bool (): whether a step's loss or gradient norm is not finite or above mean + n_stddevs x deviation.

    Args:
      window: float32 (2, W), losses and norms of the last W steps whose updates were made. A place that is not filled
        yet holds NaN, and until all are filled, only what is not finite is a spike.
      loss: float32 ().
      norm: float32 ().
      n_stddevs: how many standard deviations are too many.
    """
    latest = ops.stack([loss, norm])
    # One NaN in the window makes both limits NaN, and no number is greater than NaN.
    limits = ops.mean(window, axis=1) + n_stddevs * ops.std(window, axis=1)
    return ops.logical_not(ops.all(ops.isfinite(latest))) | ops.any(latest > limits)


def slide(window: Array, loss: Array, norm: Array, skipped: Array) -> tf.Tensor:
    """Returns the window without its oldest values and with a step's; unchanged if the step's update was skipped."""
    latest = ops.stack([loss, norm])[:, None]  # (2, 1)
    return ops.where(skipped, window, ops.concatenate([window[:, 1:], latest], axis=1))


def window_steps(config: TrainConfig) -> int:
    """Returns W, the steps that the window of a run holds: none where spikes are not skipped."""
    return config.spike_window_steps if config.skip_spikes else 0


@dataclasses.dataclass(frozen=True, eq=False)
class SkipState:
    """What decides which updates are skipped, and how many were: a value that goes into a step and comes back anew.

    A checkpoint keeps it, because a resumed run must skip the same steps.

    window: float32 (2, W), read only; see `is_spike`.
    skipped_steps: since the run began.
    skipped_in_a_row: up to the last step.
    """

    window: np.ndarray
    skipped_steps: int = 0
    skipped_in_a_row: int = 0

    def __post_init__(self) -> None:
        self.window.setflags(write=False)

    @classmethod
    def before_first_step(cls, config: TrainConfig) -> "SkipState":
        """Returns the state that a run begins with."""
        return cls(np.full((2, window_steps(config)), np.nan, np.float32))

    @classmethod
    def from_json(cls, values: dict[str, Any], window_steps: int) -> "SkipState":
        """Returns a state that `to_json` wrote, its window cut to the newest or filled up to `window_steps`."""
        filled = np.array([values["losses"], values["norms"]], np.float32)
        kept = filled[:, max(0, filled.shape[1] - window_steps) :]
        window = np.full((2, window_steps), np.nan, np.float32)
        window[:, window_steps - kept.shape[1] :] = kept
        return cls(window, values["skipped_steps"], values["skipped_in_a_row"])

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values, from which `from_json` makes the same bits."""
        filled = self.window[:, ~np.isnan(self.window[LOSS_ROW])].astype(float)
        return {
            "losses": filled[LOSS_ROW].tolist(),
            "norms": filled[NORM_ROW].tolist(),
            "skipped_steps": self.skipped_steps,
            "skipped_in_a_row": self.skipped_in_a_row,
        }

    def after(self, skipped: Sequence[bool], window: np.ndarray) -> "SkipState":
        """Returns the state after consecutive steps, given which of them were skipped and the window they left."""
        *_, in_a_row = self.rows(skipped)
        return SkipState(window, self.skipped_steps + int(np.sum(skipped)), in_a_row)

    def rows(self, skipped: Sequence[bool]) -> list[int]:
        """Returns how many updates in a row were skipped up to now, and up to each of the steps that follow."""
        rows = [self.skipped_in_a_row]
        for one in skipped:
            rows.append(rows[-1] + 1 if one else 0)
        return rows
