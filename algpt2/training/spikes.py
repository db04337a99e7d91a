"""Updates that would do harm: a loss or gradient norm that is not finite, or far above those of the recent steps."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

LOSS_ROW, NORM_ROW = 0, 1


def is_spike(window: Any, loss: Any, norm: Any, n_stddevs: float) -> Any:
    """Returns bool (): whether a step's loss or gradient norm is not finite or above mean + n_stddevs x deviation.

    Args:
      window: float32 (2, W), losses and norms of the last W steps whose updates were made; NaN in a place that is not
        filled yet, and until it is, only what is not finite counts.
      loss: float32 ().
      norm: float32 ().
      n_stddevs: how many standard deviations are too many.
    """
    latest = ops.stack([loss, norm])
    # A NaN in the window makes both NaN, and nothing is greater than NaN.
    limits = ops.mean(window, axis=1) + n_stddevs * ops.std(window, axis=1)
    return ops.logical_not(ops.all(ops.isfinite(latest))) | ops.any(latest > limits)


def slide(window: Any, loss: Any, norm: Any, skipped: Any) -> Any:
    """Returns the window with a step's values in the place of the oldest, or as it was if the step was skipped."""
    latest = ops.stack([loss, norm])[:, None]  # (2, 1)
    return ops.where(skipped, window, ops.concatenate([window[:, 1:], latest], axis=1))


@dataclasses.dataclass
class SkipState:
    """What must survive a restart for the same steps to be skipped: the window, and how many steps were."""

    window: np.ndarray
    skipped_steps: int = 0
    skipped_in_a_row: int = 0

    @classmethod
    def empty(cls, window_steps: int) -> "SkipState":
        """Returns the state before the first step."""
        return cls(np.full((2, window_steps), np.nan, np.float32))

    @classmethod
    def from_json(cls, values: dict[str, Any], window_steps: int) -> "SkipState":
        """Returns a state that `to_json` wrote, its window cut or filled up to `window_steps`."""
        state = cls.empty(window_steps)
        kept = np.array([values["losses"], values["norms"]], np.float32)[:, -window_steps:]
        state.window[:, window_steps - kept.shape[1] :] = kept
        state.skipped_steps, state.skipped_in_a_row = values["skipped_steps"], values["skipped_in_a_row"]
        return state

    def to_json(self) -> dict[str, Any]:
        """Returns plain JSON values, from which `from_json` makes the same bits."""
        filled = self.window[:, ~np.isnan(self.window[LOSS_ROW])].astype(float)
        return {
            "losses": filled[LOSS_ROW].tolist(),
            "norms": filled[NORM_ROW].tolist(),
            "skipped_steps": self.skipped_steps,
            "skipped_in_a_row": self.skipped_in_a_row,
        }

    def count(self, skipped: Sequence[bool]) -> int:
        """Takes in which of consecutive steps were skipped; returns the longest row of them up to now."""
        longest = 0
        for one in skipped:
            self.skipped_in_a_row = self.skipped_in_a_row + 1 if one else 0
            longest = max(longest, self.skipped_in_a_row)
        self.skipped_steps += int(np.sum(skipped))
        return longest
