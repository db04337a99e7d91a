"""Exports a training step as a StableHLO program, which a TPU's compiler takes, and refuses what no TPU can run."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla

from algpt2.config.model import GPTConfig
from algpt2.config.training import TrainConfig
from algpt2.errors import UserError
from algpt2.optim.create import OptimizerFactory
from algpt2.optim.replicas import Replicas
from algpt2.training.step import TrainStep, create_model

_UNSUPPORTED = re.compile(r"No registered '(\w+)' OpKernel")
_CREATED_AT = re.compile(r'File "([^"]+)", line (\d+), in')
# Every StableHLO program with a dynamic dimension holds this operation, which bounds the dimension. Some programs
# without one hold it too, so where it is found the graph is searched.
_DYNAMIC_MARK = b"set_dimension_size"
_UNKNOWN_LINE = "a line that TensorFlow did not keep"


class AbsentReplicas(Replicas):
    """The first of so many replicas, of which the others are not there: for a step that is compiled and never run."""

    def __init__(self, count: int):
        super().__init__(tf.distribute.get_strategy())
        self.count = count

    def sum_over_replicas(self, values: list[tf.Tensor]) -> list[tf.Tensor]:
        """Returns what this replica brings, in memory of its own, as the sums would be."""
        return [xla.optimization_barrier(value)[0] for value in values]


def export_training_step(model_config: GPTConfig, train_config: TrainConfig, n_replicas: int = 1) -> bytes:
    """Returns the step of one replica that gets all of `batch_size`: forward, backward, accumulation, clip, update.

    The program has the parameters and the optimizer's state as arguments and results that share memory, as on a TPU.
    The all-reduce between replicas is not in it. Where the optimizer's state is shared out, the program has the first
    replica's part of it, and memory of its own for each parameter that the replicas exchange, and not the exchange.

    Args:
      model_config: the run's model.
      train_config: the run's, with the batch of one replica.
      n_replicas: of the run, to which the optimizer's state may be shared out.

    Raises:
      UserError: an operation that no TPU can run.
    """
    model = create_model(model_config, train_config)
    factory = OptimizerFactory(replicas=AbsentReplicas(n_replicas))
    function, arguments = TrainStep(tf.distribute.get_strategy(), model, train_config, factory).replica_function()
    return export(function, *arguments)


def export(function: Callable[..., Any], *arguments: tf.TensorSpec) -> bytes:
    """Returns a function's StableHLO program, serialized.

    Raises:
      UserError: an operation that no TPU can run: one without a kernel for XLA (strings, Python), or one whose
        result's shape depends on data.
    """
    traced = tf.function(function, jit_compile=True, autograph=False)
    concrete = traced.get_concrete_function(*arguments)
    try:
        # With platform_name="TPU" this fails on functions that capture variables. The program for "CPU" is the same.
        compile_to = traced.experimental_get_compiler_ir(*arguments)
        program = compile_to(stage="stablehlo_serialized", platform_name="CPU")
    except (ValueError, tf.errors.OpError) as error:
        raise _refusal(str(error)) from error
    if found := _DYNAMIC_MARK in program and next(_ops_of_dynamic_shape(concrete.graph), None):
        kind, line = found
        raise UserError(
            f"a step for a TPU must have static shapes, and the shape that {kind} gives depends on data ({line}): "
            "use a mask of fixed shape instead."
        )
    return program


def _refusal(message: str) -> UserError:
    """Turns XLA's refusal into a sentence, with the innermost line outside TensorFlow and Keras that made the op."""
    message = message.split("Stack trace for op definition")[0]  # after it come the loops around the operation
    kind = _UNSUPPORTED.search(message)
    lines = [f"{path}:{line}" for path, line in _CREATED_AT.findall(message) if not _is_library(path)]
    where = lines[-1] if lines else _UNKNOWN_LINE
    if kind is None:
        reason = " ".join(message.split())[:300]
        return UserError(f"a step for a TPU must be a program that XLA can compile, and it is not ({where}): {reason}.")
    return UserError(
        f"a step for a TPU may only hold operations that a TPU has, and it holds {kind[1]} ({where}): move it to the "
        "input pipeline, or out of the step."
    )


def _ops_of_dynamic_shape(graph: Any) -> Iterator[tuple[str, str]]:
    """Yields kind and source line of each operation that makes an unknown shape out of known ones."""
    inner = [getattr(function, "graph", None) for function in graph._functions.values()]
    for some in (graph, *filter(None, inner)):
        for operation in some.get_operations():
            makes_it = operation.inputs and all(map(_is_static, operation.inputs))
            if makes_it and not all(map(_is_static, operation.outputs)):
                yield operation.type, _source_line(operation)


def _source_line(operation: tf.Operation) -> str:
    frames = [frame for frame in operation.traceback or () if not _is_library(frame.filename)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else _UNKNOWN_LINE


def _is_static(tensor: tf.Tensor) -> bool:
    return tensor.dtype in (tf.resource, tf.variant) or tensor.shape.is_fully_defined()


def _is_library(path: str) -> bool:
    return "/tensorflow/" in path or "/keras/" in path
