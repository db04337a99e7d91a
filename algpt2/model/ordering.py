"""An order of computation that compilers keep."""

from typing import Any

from keras import ops


def computed_after(x: Any, earlier: Any) -> Any:
    """Returns `x`, any floating tensor, unchanged, but not before some of `earlier`, a nonempty one, is computed.

    XLA knows no control dependencies: it computes equal expressions once and keeps the result, and computes early what
    it can. It cannot leave out 0 times a number, which may not be finite (then neither is the result).
    """
    nothing = 0 * earlier[(0,) * len(earlier.shape)]
    return x + ops.cast(nothing, x.dtype)
