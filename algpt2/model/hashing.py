"""Numbers that look random and are a pure function of a seed and a place; nothing is stored and no order matters."""

import numpy as np
from keras import ops

from algpt2.model.tensors import Tensor

# "lowbias32" of C. Wellons, "Prospecting for Hash Functions", https://nullprogram.com/blog/2018/07/31/.
_SHIFTS, _FACTORS = (16, 15, 16), (0x7FEB352D, 0x846CA68B)


def hashed(x: Tensor) -> Tensor:
    """uint32 -> uint32, one to one; flipping a bit of the input flips each bit of the output about half of the time."""
    for shift, factor in zip(_SHIFTS, (*_FACTORS, 1), strict=True):
        x = (x ^ ops.right_shift(x, np.uint32(shift))) * np.uint32(factor)
    return x
