"""Graph functions that XLA compiles where it can and should."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from algpt2.devices import strategies, wheels


def graph_function(
    function: Callable[..., Any], jit_compile: bool = True, strategy: tf.distribute.Strategy | None = None
) -> Callable[..., Any]:
    """Returns `function` as a `tf.function`, compiled by XLA if asked for and possible here.

    Not inside `strategy.run` on TPU, all of which is compiled anyway, where a nested `jit_compile` fails (keras
    #19448). Not with the tensorflow-tpu wheel on the host: it has no XLA backend for CPUs ("could not find registered
    transfer manager for platform Host").

    Args:
      function: takes and returns tensors.
      jit_compile: whether XLA is wanted.
      strategy: the one whose replicas call it, if any.
    """
    possible = wheels.has_host_compiler() and not strategies.is_tpu(strategy)
    return tf.function(function, jit_compile=True if jit_compile and possible else None, autograph=False)
