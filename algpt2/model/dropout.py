"""Dropout whose masks are hashes of seed and place.

No mask is stored: XLA computes it inside the operation that reads it, in the forward pass and again in the backward
pass. The numbers of a random generator, as `keras.random` draws them, pass through memory each time.
"""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from keras import ops

from algpt2.model.hashing import hashed
from algpt2.model.tensors import Integer, Tensor, TensorLike


class Mask(Protocol):
    """What a dropout does to a tensor of one shape."""

    def apply(self, x: Tensor, start: tuple[int, int] | None = None) -> Tensor:
        """Returns `x` after the mask, or after the part of it that begins at `start` in the last two dimensions."""


@dataclasses.dataclass(frozen=True)
class Dropout:
    """One of the dropouts of a model, in one forward pass. Calling it with a floating tensor applies it.

    Attributes:
      rate: probability in [0, 1) with which an element becomes zero.
      seed: int32 (2,), of the whole forward pass; None switches dropout off.
      site: the number of this dropout within the model, so that no two of them share a mask.
    """

    rate: float
    seed: TensorLike | None
    site: Integer

    def __call__(self, x: Tensor) -> Tensor:
        """Returns `x` after the mask of its whole shape."""
        return self.mask(ops.shape(x)).apply(x)

    def mask(self, shape: Sequence[Integer]) -> Mask:
        """Returns the mask of a tensor; only the first dimension of its shape may be unknown to the graph.

        Raises:
          ValueError: another dimension is.
        """
        if self.seed is None or self.rate == 0:
            return KeepAll()
        if not all(isinstance(size, int) for size in shape[1:]):
            raise ValueError(f"dropout needs sequences whose length is known when the graph is made, received {shape}")
        return HashedMask(self.rate, self.seed, self.site, shape)


NO_DROPOUT = Dropout(rate=0.0, seed=None, site=0)


class KeepAll:
    """The mask of a dropout that is switched off."""

    def apply(self, x: Tensor, start: tuple[int, int] | None = None) -> Tensor:
        """Returns `x` as it is."""
        return x


class HashedMask:
    """Zeroes each element of a tensor with probability `rate`, and scales the rest by 1 / (1 - rate).

    The mask is a pure function of seed, site and shape. An element's fate is a hash of two numbers: the hash of its
    row, which is its place in all dimensions but the last, and that of its column. It repeats after 2^32 rows.
    """

    def __init__(self, rate: float, seed: TensorLike, site: Integer, shape: Sequence[Integer]):
        """Makes the hashes of rows and columns; the arguments are those of `Dropout`."""
        self.rate = rate
        first, second = (ops.cast(word, "uint32") for word in ops.unstack(ops.convert_to_tensor(seed, "int32")))
        rows = hashed(first ^ hashed(ops.cast(site, "uint32")))
        columns = hashed(rows ^ second) + _indices(shape, len(shape) - 1)
        stride = 1
        for axis in reversed(range(len(shape) - 1)):
            # Each axis is added to the seed's hash at once. Indices added to one another would be constants, which
            # TensorFlow would fold into one large constant of the program.
            rows = rows + _indices(shape, axis) * np.uint32(stride % 2**32)
            stride = stride * shape[axis] if axis else stride
        self.row_hashes, self.column_hashes = hashed(rows), hashed(columns)

    def apply(self, x: Tensor, start: tuple[int, int] | None = None) -> Tensor:
        """Returns `x` after the mask, or after the part of it that begins at `start` in the last two dimensions."""
        rows, columns = self.row_hashes, self.column_hashes
        if start is not None:
            (row, column), (n_rows, n_columns) = start, x.shape[-2:]
            rows, columns = rows[..., row : row + n_rows, :], columns[..., column : column + n_columns]
        keep = hashed(rows ^ columns) >= np.uint32(round(self.rate * 2**32))
        return ops.where(keep, x * ops.cast(1 / (1 - self.rate), x.dtype), ops.cast(0, x.dtype))


def _indices(shape: Sequence[Integer], axis: int) -> Tensor:
    """Returns the indices along an axis, uint32, in a shape that broadcasts over the other axes."""
    indices = ops.cast(ops.arange(shape[axis], dtype="int32"), "uint32")
    return ops.reshape(indices, [-1 if i == axis else 1 for i in range(len(shape))])
