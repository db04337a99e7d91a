"""Graph functions, compiled by XLA where XLA can compile them."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from algpt2.devices import strategies, wheels


def graph_function(
    function: Callable[..., Any], jit_compile: bool = True, strategy: tf.distribute.Strategy | None = None
) -> Callable[..., Any]:
    """Returns `function` as a `tf.function`, compiled by XLA if that is wanted and possible.

    It is not possible in two cases. On TPU all of `strategy.run` is compiled anyway, and a nested `jit_compile` fails
    (keras issue #19448). And the tensorflow-tpu wheel has no XLA backend for the CPU of its host ("could not find
    registered transfer manager for platform Host"), where evaluation and generation run.

    Args:
      function: takes and returns tensors.
      jit_compile: whether XLA is wanted.
      strategy: the strategy whose replicas call the function, or None if no replica does.
    """
    possible = wheels.has_host_compiler() and not strategies.is_tpu(strategy)
    return tf.function(function, jit_compile=True if jit_compile and possible else None, autograph=False)
