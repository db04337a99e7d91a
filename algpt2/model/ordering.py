"""An order of computation that compilers keep."""

from keras import ops

from algpt2.model.tensors import Tensor


def computed_after(x: Tensor, earlier: Tensor) -> Tensor:
    """Returns `x` unchanged, in a way that the compiler cannot compute before an element of `earlier`.

    XLA has no control dependencies: it computes equal expressions once and keeps the result, and it computes early
    whatever it can. So 0 x (an element of `earlier`) is added to `x`. XLA cannot drop that product, because the element
    may turn out to be infinite or not a number, which then spoils the result.

    Args:
      x: any floating tensor.
      earlier: any floating tensor with at least one element.
    """
    nothing = 0 * earlier[(0,) * len(earlier.shape)]
    return x + ops.cast(nothing, x.dtype)
