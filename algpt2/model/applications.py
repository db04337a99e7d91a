"""Hyper-connections: what each application of the blocks has of its own (arXiv:2409.19606).

Blocks that are shared compute the same at every depth. The parameters here are a few numbers that belong to a depth:
the residual stream is K lanes, of which each application takes a weighted sum and adds to all. They start where they
change nothing, so that a model with them begins as one without.

Shapes: B batch, L positions, T applications, D d_model, K lanes.
"""

from typing import Any

import keras
from keras import ops

from algpt2.config.model import GPTConfig, application_shapes
from algpt2.model.configured_layer import ConfiguredLayer
from algpt2.model.tensors import Integer, Tensor

# What passes from one application to the next: K tensors (B, L, D) with hyper-connections, else one.
Stream = tuple[Tensor, ...]


@keras.saving.register_keras_serializable(package="algpt2")
class Applications(ConfiguredLayer):
    """The parameters that belong to an application, and not to the block that it uses."""

    def __init__(self, config: GPTConfig, **kwargs: Any):
        """Makes the layer, its parameters not yet created.

        Args:
          config: of the model.
          kwargs: `dtype`, `name` and what else every Keras layer takes.
        """
        super().__init__(config, **kwargs)
        self.tables: dict[str, keras.Variable] = {}

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the parameters."""
        for name, shape in application_shapes(self.config).items():
            table = self.add_weight(name=name, shape=shape, initializer=_INITIALIZERS[name], autocast=False)
            self.tables[name] = table

    def begin(self, x: Tensor) -> Stream:
        """Returns the stream before the first application, of what the embeddings give, (B, L, D)."""
        return (x,) * max(self.config.hyper_connections, 1)

    def input(self, stream: Stream, application: Integer) -> Tensor:
        """Returns what an application works on, (B, L, D)."""
        if not self.config.hyper_connections:
            return stream[0]
        return _weighted_sum(self._of("lane_inputs", application, stream), stream)

    def after(self, stream: Stream, x: Tensor, result: Tensor, application: Integer) -> Stream:
        """Returns the stream after an application has made `result` of `x`."""
        if not self.config.hyper_connections:
            return (result,)
        mixing, outputs = (self._of(name, application, stream) for name in ("lane_mixing", "lane_outputs"))
        return tuple(_weighted_sum(mixing[k], stream) + outputs[k] * (result - x) for k in range(len(stream)))

    def end(self, stream: Stream) -> Tensor:
        """Returns the stream after the last application, (B, L, D): the mean of its lanes."""
        return sum(stream[1:], stream[0]) / len(stream) if len(stream) > 1 else stream[0]

    def _of(self, name: str, application: Integer, stream: Stream) -> Tensor:
        """Returns a table's row of an application, in the dtype of the stream."""
        return ops.cast(ops.take(self.tables[name].value, application, axis=0), stream[0].dtype)


def pack(stream: Stream) -> Tensor:
    """Returns a stream as one tensor, for a loop that keeps its inputs: (B, L, D), or (K, B, L, D) of several lanes."""
    return ops.stack(stream) if len(stream) > 1 else stream[0]


def unpack(packed: Tensor) -> Stream:
    """Returns the stream that was packed."""
    return (packed,) if len(packed.shape) == 3 else tuple(packed[lane] for lane in range(packed.shape[0]))


def _lane_of_its_own(shape: tuple[int, ...], dtype: Any) -> Tensor:
    """(T, K): each application takes one lane, in turn."""
    return ops.one_hot(ops.arange(shape[0]) % shape[1], shape[1], dtype=dtype)


def _every_lane_stays(shape: tuple[int, ...], dtype: Any) -> Tensor:
    """(T, K, K): the identity for each application."""
    return ops.tile(ops.eye(shape[1], dtype=dtype)[None], (shape[0], 1, 1))


def _weighted_sum(weights: Tensor, lanes: Stream) -> Tensor:
    return sum(weights[k] * lane for k, lane in enumerate(lanes))


_INITIALIZERS = {"lane_inputs": _lane_of_its_own, "lane_mixing": _every_lane_stays, "lane_outputs": "ones"}
