"""Dropout that is a function of its seed."""

from typing import Any

import keras
from keras import ops


class GivenSeed(keras.random.SeedGenerator):
    """Hands a seed tensor, int32 (2,), to `keras.random`, which otherwise draws one from state of its own.

    Under `MirroredStrategy` that state is mirrored, so every replica would get the same mask; and it is not saved.
    """

    def __init__(self, seed: Any):
        self._seed = seed

    def next(self, ordered: bool = True) -> Any:
        """Returns the seed that was given, every time."""
        return self._seed


def dropout(x: Any, rate: float, seed: Any, site: int, part: int = 0) -> Any:
    """Returns `x` with each element zeroed with probability `rate` and the rest scaled by 1 / (1 - rate).

    Args:
      x: any shape, floating.
      rate: probability in [0, 1).
      seed: int32 (2,), or None for no dropout. The mask is a pure function of (seed, site, part, shape).
      site: which dropout of the model this is, so that no two share a mask; it is added to seed[1], so seeds must
        be hashes, not neighbours.
      part: which part of that site's tensor this is, if it is worked through in parts; it is added to seed[0].
    """
    if seed is None or rate == 0:
        return x
    part_seed = seed + ops.array([part, site], dtype="int32")
    # Drawn in float32: a bfloat16 uniform has 128 values, and a rate of 0.1 would come out as 0.1016.
    keep = keras.random.uniform(ops.shape(x), dtype="float32", seed=GivenSeed(part_seed)) >= rate
    return ops.where(keep, x * ops.cast(1 / (1 - rate), x.dtype), ops.zeros_like(x))
