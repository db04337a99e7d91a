"""Rematerialisation: what a block computes is not kept for the backward pass, but computed again there.

Only the input of each application of a block is kept, at the price of one more forward pass (Chen et al. 2016,
arXiv:1604.06174).
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from algpt2.model.ordering import computed_after
from algpt2.model.tensors import Integer

# (input, number of the application) -> output of the same shape.
Apply = Callable[[tf.Tensor, Integer], tf.Tensor]
Variables = Sequence[tf.Variable]


def rematerialised(apply: Apply, x: tf.Tensor, application: int) -> tf.Tensor:
    """Returns apply(x, application), of which only `x` is kept for the backward pass."""

    @tf.custom_gradient
    def forward(x: tf.Tensor) -> tuple[tf.Tensor, object]:
        def gradient(upstream: tf.Tensor, variables: Variables = ()) -> tuple[tf.Tensor, list[tf.Tensor]]:
            # Without this order the compiler would find the forward pass computed twice, and keep its results.
            x_again = computed_after(x, upstream)
            d_x, *d_variables = _gradients(apply, x_again, application, variables, upstream)
            return d_x, d_variables

        return apply(x, application), gradient

    return forward(x)


def rematerialised_loop(apply: Apply, x: tf.Tensor, n_applications: int) -> tf.Tensor:
    """Returns x after `apply` with the numbers 0 to n_applications - 1, of which only the inputs are kept.

    Forward and backward pass are a loop each, so the program does not grow with the number of applications.
    """

    @tf.custom_gradient
    def forward(x: tf.Tensor) -> tuple[tf.Tensor, object]:
        output, inputs = _apply_all(apply, x, n_applications)

        def gradient(upstream: tf.Tensor, variables: Variables = ()) -> tuple[tf.Tensor, list[tf.Tensor]]:
            def step_back(i: tf.Tensor, d_x: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
                d_x, *more = _gradients(apply, inputs[i], i, variables, d_x)
                return i - 1, d_x, *(a + b for a, b in zip(sums, more, strict=True))

            zeros = [tf.zeros(variable.shape, variable.dtype) for variable in variables]
            start = (tf.constant(n_applications - 1), upstream, *zeros)
            _, d_x, *sums = tf.while_loop(lambda i, *_: i >= 0, step_back, start, maximum_iterations=n_applications)
            return d_x, sums

        return output, gradient

    return forward(x)


def _apply_all(apply: Apply, x: tf.Tensor, n_applications: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the last output, and the inputs (n_applications, *x.shape)."""

    def step(i: tf.Tensor, x: tf.Tensor, inputs: tf.TensorArray) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
        return i + 1, tf.ensure_shape(apply(x, i), x.shape), inputs.write(i, x)

    inputs = tf.TensorArray(x.dtype, size=n_applications, element_shape=x.shape)
    start = (tf.constant(0), x, inputs)
    _, output, inputs = tf.while_loop(lambda i, *_: i < n_applications, step, start, maximum_iterations=n_applications)
    return output, inputs.stack()


def _gradients(
    apply: Apply, x: tf.Tensor, application: Integer, variables: Variables, upstream: tf.Tensor
) -> list[tf.Tensor]:
    """Returns the gradients of x and of each variable."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        output = apply(x, application)
    gradients = tape.gradient(output, [x, *variables], upstream)
    return [tf.convert_to_tensor(gradient) for gradient in gradients]
