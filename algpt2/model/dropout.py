"""Dropout whose masks are hashes of seed and place.

Nothing of a mask is stored: XLA computes it where it is used, forward and again backward, as a part of the operation
that reads it. A generator's random numbers, which `keras.random` would draw, pass through memory each time.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

# "lowbias32" of C. Wellons, "Prospecting for Hash Functions", https://nullprogram.com/blog/2018/07/31/.
_SHIFTS, _FACTORS = (16, 15, 16), (0x7FEB352D, 0x846CA68B)


def dropout(x: Any, rate: float, seed: Any, site: Any) -> Any:
    """Returns `x`, floating, after the `DropoutMask` of these arguments and its shape; as it is if `seed` is None."""
    return dropout_of(rate, seed, site, ops.shape(x))(x)


def dropout_of(rate: float, seed: Any, site: Any, shape: Sequence[Any]) -> Callable[..., Any]:
    """Returns `DropoutMask.apply` of these arguments, or what changes nothing if `seed` is None or `rate` is 0."""
    if seed is None or rate == 0:
        return lambda x, start=None: x
    return DropoutMask(rate, seed, site, shape).apply


class DropoutMask:
    """Zeroes each element of a tensor with probability `rate`, and scales the rest by 1 / (1 - rate).

    A pure function of seed, site and shape. Each element is a hash of two: of its row, which is its place in all
    dimensions but the last, and of its column. It repeats after 2^32 rows.
    """

    def __init__(self, rate: float, seed: Any, site: Any, shape: Sequence[Any]):
        """Makes the hashes of rows and columns.

        Args:
          rate: probability in [0, 1).
          seed: int32 (2,).
          site: which dropout of the model this is, so that no two share a mask; an integer or an integer tensor.
          shape: of the tensor. Only the first dimension may be unknown to the graph.
        """
        self.rate = rate
        first, second = (ops.cast(word, "uint32") for word in ops.unstack(ops.convert_to_tensor(seed, "int32")))
        rows = _hash(first ^ _hash(ops.cast(site, "uint32")))
        columns = _hash(rows ^ second) + _along(shape, len(shape) - 1)
        stride = 1
        for axis in reversed(range(len(shape) - 1)):
            # To the key first: TensorFlow would store sums of constants as large ones.
            rows = rows + _along(shape, axis) * np.uint32(stride % 2**32)
            stride = stride * shape[axis] if axis else stride
        self.rows, self.columns = _hash(rows), _hash(columns)

    def apply(self, x: Any, start: tuple[int, int] | None = None) -> Any:
        """Returns `x` after the mask, or after the part of it that begins at `start` in the last two dimensions."""
        rows, columns = self.rows, self.columns
        if start is not None:
            (row, column), (n_rows, n_columns) = start, x.shape[-2:]
            rows, columns = rows[..., row : row + n_rows, :], columns[..., column : column + n_columns]
        keep = _hash(rows ^ columns) >= np.uint32(round(self.rate * 2**32))
        return ops.where(keep, x * ops.cast(1 / (1 - self.rate), x.dtype), ops.zeros_like(x))


def _along(shape: Sequence[Any], axis: int) -> Any:
    """Returns each element's place along an axis, uint32, to be broadcast over the others."""
    along = ops.cast(ops.arange(shape[axis], dtype="int32"), "uint32")
    return ops.reshape(along, [-1 if i == axis else 1 for i in range(len(shape))])


def _hash(x: Any) -> Any:
    """uint32 -> uint32, one to one; each bit of the input changes each of the output about half of the time."""
    for shift, factor in zip(_SHIFTS, (*_FACTORS, 1), strict=True):
        x = (x ^ ops.right_shift(x, np.uint32(shift))) * np.uint32(factor)
    return x
