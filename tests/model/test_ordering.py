import numpy as np
import pytest
import tensorflow as tf
from marks import needs_host_compiler

from algpt2.model.ordering import computed_after


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_what_comes_after_something_is_unchanged(rng, dtype):
    x = tf.constant(rng.normal(size=(3, 4)), dtype)
    np.testing.assert_array_equal(computed_after(x, tf.ones((2, 1))), x)
    np.testing.assert_array_equal(computed_after(x, tf.constant(-5.0)), x)


@needs_host_compiler
@pytest.mark.parametrize(("ordered", "n_computed"), [(False, 1), (True, 2)])
def test_a_compiler_computes_equal_expressions_once_unless_one_comes_after_the_other(rng, ordered, n_computed):
    @tf.function(jit_compile=True, autograph=False)
    def function(a, b):
        first = tf.tanh(a @ b)
        return first + 2 * tf.tanh((computed_after(a, first) if ordered else a) @ b)

    a, b = (tf.constant(rng.normal(size=(8, 8)), tf.float32) for _ in range(2))
    np.testing.assert_allclose(function(a, b), 3 * np.tanh(a.numpy() @ b.numpy()), rtol=1e-5)
    assert function.experimental_get_compiler_ir(a, b)(stage="optimized_hlo").count(" tanh(") == n_computed
