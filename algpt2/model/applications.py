"""What each application of the blocks has of its own, and how the residual stream passes from one to the next.

Blocks that are shared compute the same at every depth. The parameters here are few and belong to a depth: L tables of
D numbers, or a few scalars. Each starts where it changes nothing, so that a model with them begins as one without.

Shapes: B batch, L positions, T applications, D d_model, K lanes.
"""

from typing import Any, NamedTuple

import keras
from keras import ops

from algpt2.config.model import GPTConfig, application_shapes
from algpt2.model.configured_layer import ConfiguredLayer
from algpt2.model.tensors import Integer, Tensor


class Stream(NamedTuple):
    """What passes from one application to the next. What the model's variants do not need is None.

    Attributes:
      lanes: the residual stream, (B, L, D); with hyper-connections K of them, else one.
      first: what entered the first application, (B, L, D).
      previous: what the application before has added to the stream, (B, L, D).
      values: what is added to the values of each attention, times a number for each application, (B, L, D).
    """

    lanes: tuple[Tensor, ...]
    first: Tensor | None
    previous: Tensor | None
    values: Tensor | None


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
            table = self.add_weight(name=name, shape=shape, initializer=self._initializer(name), autocast=False)
            self.tables[name] = table

    def _initializer(self, name: str) -> Any:
        if name.endswith(".scale") or name == "lane_outputs":
            return "ones"
        if name == "lane_inputs":
            return lambda shape, dtype: ops.one_hot(ops.arange(shape[0]) % shape[1], shape[1], dtype=dtype)
        if name == "lane_mixing":
            return lambda shape, dtype: ops.tile(ops.eye(shape[1], dtype=dtype)[None], (shape[0], 1, 1))
        return "zeros"

    def begin(self, x: Tensor, values: Tensor | None) -> Stream:
        """Returns the stream before the first application.

        Args:
          x: what the embeddings give, (B, L, D).
          values: of the value embeddings, (B, L, D), or None.
        """
        config = self.config
        previous = ops.zeros_like(x) if config.previous_skip else None
        return Stream((x,) * max(config.hyper_connections, 1), x if config.input_skip else None, previous, values)

    def input(self, stream: Stream, application: Integer) -> Tensor:
        """Returns what an application works on, (B, L, D)."""
        x = stream.lanes[0]
        if self.config.hyper_connections:
            x = _weighted_sum(self._of("lane_inputs", application, x), stream.lanes)
        if self.config.input_skip:
            x = x + self._of("input_skip", application, x) * stream.first
        if self.config.previous_skip:
            x = x + self._of("previous_skip", application, x) * stream.previous
        return x

    def after(self, stream: Stream, x: Tensor, result: Tensor, application: Integer) -> Stream:
        """Returns the stream after an application has made `result` of `x`."""
        if not (self.config.hyper_connections or self.config.previous_skip):
            return stream._replace(lanes=(result,))
        contribution = result - x
        previous = contribution if self.config.previous_skip else None
        lanes = (result,)
        if self.config.hyper_connections:
            mixing = self._of("lane_mixing", application, x)
            outputs = self._of("lane_outputs", application, x)
            lanes = tuple(
                _weighted_sum(mixing[k], stream.lanes) + outputs[k] * contribution for k in range(len(stream.lanes))
            )
        return stream._replace(lanes=lanes, previous=previous)

    def end(self, stream: Stream) -> Tensor:
        """Returns the stream after the last application, (B, L, D): the mean of its lanes."""
        return sum(stream.lanes[1:], stream.lanes[0]) / len(stream.lanes) if len(stream.lanes) > 1 else stream.lanes[0]

    def modulated(self, part: str, x: Tensor, application: Integer) -> Tensor:
        """Returns x times the scale plus the bias of an application, where the model has them.

        Args:
          part: "ln_1", "ln_2", "attn" or "mlp", whose output `x` is.
          x: (B, L, D).
          application: from 0.
        """
        if f"{part}.scale" not in self.tables:
            return x
        return x * self._of(f"{part}.scale", application, x) + self._of(f"{part}.bias", application, x)

    def values_of(self, stream: Stream, application: Integer) -> Tensor | None:
        """Returns what is added to the values of an application's attention, (B, L, D), or None."""
        if stream.values is None:
            return None
        return stream.values * self._of("value_scale", application, stream.values)

    def _of(self, name: str, application: Integer, like: Tensor) -> Tensor:
        """Returns a table's row of an application, in the dtype of a tensor."""
        return ops.cast(ops.take(self.tables[name].value, application, axis=0), like.dtype)


def pack(stream: Stream) -> Tensor:
    """Returns a stream as one tensor, for a loop that keeps its inputs: (B, L, D), or (tensors, B, L, D) of several."""
    tensors = [*stream.lanes, *(tensor for tensor in stream[1:] if tensor is not None)]
    return ops.stack(tensors) if len(tensors) > 1 else tensors[0]


def unpack(packed: Tensor, like: Stream) -> Stream:
    """Returns the stream that was packed; `like` has the same tensors and None in the same places."""
    tensors = iter([packed] if len(packed.shape) == 3 else [packed[i] for i in range(packed.shape[0])])
    lanes = tuple(next(tensors) for _ in like.lanes)
    return Stream(lanes, *(None if tensor is None else next(tensors) for tensor in like[1:]))


def _weighted_sum(weights: Tensor, lanes: tuple[Tensor, ...]) -> Tensor:
    return sum(weights[k] * lane for k, lane in enumerate(lanes))
