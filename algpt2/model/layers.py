"""The parts of a GPT: causal self-attention, feed-forward, block.

Written with `keras.ops`. Attributes carry GPT-2's published names (`ln_1`, `attn.c_attn`, ...), which are also the
names in a checkpoint. Shapes: B batch, L positions, S cached slots, D d_model, H heads, K head size.
"""

from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from algpt2.config.model import ALIBI, GPTConfig
from algpt2.model.attention import cached_attention, causal_attention
from algpt2.model.attention_bias import AttentionBias, alibi_slopes, linear_bias
from algpt2.model.configured_layer import ConfiguredLayer
from algpt2.model.dropout import Dropout
from algpt2.model.tensors import Integer, Tensor, TensorLike

LAYER_NORM_EPSILON = 1e-5
INITIAL_STDDEV = 0.02
# Attention weights, attention output, feed-forward output.
DROPOUTS_PER_BLOCK = 3

LayerCache = tuple[Tensor, Tensor]
Shape = tuple[int | None, ...]


def normal_initializer(stddev: float, rng: np.random.Generator) -> keras.initializers.Initializer:
    """Returns a normal initializer with a seed of its own, drawn from `rng`."""
    return keras.initializers.RandomNormal(stddev=stddev, seed=int(rng.integers(2**31)))


def layer_norm(dtype: keras.DTypePolicy, name: str) -> keras.layers.LayerNormalization:
    """Returns a layer norm over the last axis, whose statistics are float32 under every dtype policy."""
    return keras.layers.LayerNormalization(epsilon=LAYER_NORM_EPSILON, dtype=dtype, name=name)


def rms_norm(dtype: keras.DTypePolicy, name: str) -> keras.layers.RMSNormalization:
    """Returns an RMS norm with a gain over the last axis, whose statistics are float32 under every dtype policy."""
    return keras.layers.RMSNormalization(epsilon=LAYER_NORM_EPSILON, dtype=dtype, name=name)


class SeededLayer(ConfiguredLayer):
    """A part whose initial kernels need seeds."""

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "SeededLayer":
        """Returns a new layer from `get_config`'s fields; the seeds of its initial parameters are always the same."""
        return super().from_config({**config, "rng": np.random.default_rng(0)})


@keras.saving.register_keras_serializable(package="algpt2")
class CausalSelfAttention(SeededLayer):
    """Multi-head attention in which a position sees itself and earlier ones; softmax in float32."""

    def __init__(self, config: GPTConfig, rng: np.random.Generator, **kwargs: Any):
        """Makes the layer, its parameters not yet created.

        Args:
          config: of the model.
          rng: from which each kernel's seed is drawn.
          kwargs: `dtype`, `name` and what else every Keras layer takes.
        """
        super().__init__(config, **kwargs)
        d_model, policy = config.d_model, self.dtype_policy
        into, out_of = normal_initializer(INITIAL_STDDEV, rng), normal_initializer(residual_stddev(config), rng)
        self.c_attn = keras.layers.Dense(3 * d_model, kernel_initializer=into, dtype=policy, name="c_attn")
        self.c_proj = keras.layers.Dense(d_model, kernel_initializer=out_of, dtype=policy, name="c_proj")
        self.slopes = alibi_slopes(config.n_head) if config.position_encoding == ALIBI else None

    def build(self, input_shape: Shape) -> None:
        """Creates the parameters for inputs of shape (B, L, D)."""
        self.c_attn.build(input_shape)
        self.c_proj.build(input_shape)

    def call(
        self,
        x: Tensor,
        dropout_seed: TensorLike | None = None,
        first_site: Integer = 0,
        documents: TensorLike | None = None,
    ) -> Tensor:
        """Returns the attention's contribution to the residual stream, (B, L, D).

        Args:
          x: (B, L, D).
          dropout_seed: int32 (2,), or None without dropout.
          first_site: dropout site of the attention weights.
          documents: int32 (B, L), the number of the document that each position is of, which alone it sees; None where
            a position sees all before it.
        """
        dropout = Dropout(self.config.dropout, dropout_seed, first_site)
        query, key, value = self._query_key_value(x)
        return self._project(causal_attention(query, key, value, dropout, AttentionBias(self.slopes, documents)))

    def call_with_cache(
        self, x: Tensor, cache: LayerCache, slot: Integer, visible: Tensor
    ) -> tuple[Tensor, LayerCache]:
        """Returns what `call` would without dropout, and the cache with these positions' keys and values in it.

        Args:
          x: (B, L, D), the tokens of the slots from `slot` on.
          cache: keys and values of the slots before, each (B x H, S, K).
          slot: int32 (), that of x[:, 0]; slot + L is at most S.
          visible: bool (B, L, S), whether each token sees each slot.
        """
        query, *new = self._heads_of(self.c_attn(x))
        key, value = cache = tuple(
            ops.slice_update(old, (0, slot, 0), update) for old, update in zip(cache, new, strict=True)
        )
        n_slots = key.shape[1]
        bias = None if self.slopes is None else linear_bias(self.slopes, x.shape[1], n_slots, slot)
        attended = cached_attention(query, key, value, visible, bias)
        heads = ops.reshape(attended, (-1, self.config.n_head, *attended.shape[1:]))
        return self.c_proj(
            ops.reshape(ops.transpose(heads, (0, 2, 1, 3)), (-1, x.shape[1], self.config.d_model))
        ), cache

    def _heads_of(self, x: Tensor) -> list[Tensor]:
        """(B, L, 3 D) -> query, key and value, each (B x H, L, K)."""
        length, heads, size = x.shape[1], self.config.n_head, self.config.head_size
        by_head = ops.transpose(ops.reshape(x, (-1, length, 3, heads, size)), (2, 0, 3, 1, 4))
        return [ops.reshape(by_head[part], (-1, length, size)) for part in range(3)]

    def _query_key_value(self, x: Tensor) -> list[Tensor]:
        """(B, L, D) -> three of (B, H, L, K).

        By three products, because the backward pass would keep both the result of a single product and its parts.
        """
        heads, size = self.config.n_head, self.config.head_size
        kernels = ops.split(ops.cast(self.c_attn.kernel, x.dtype), 3, axis=-1)
        biases = ops.split(ops.cast(self.c_attn.bias, x.dtype), 3)
        return [
            ops.einsum("bld,dhk->bhlk", x, ops.reshape(kernel, (-1, heads, size))) + ops.reshape(bias, (heads, 1, size))
            for kernel, bias in zip(kernels, biases, strict=True)
        ]

    def _project(self, heads: Tensor) -> Tensor:
        """(B, H, L, K) -> (B, L, D)."""
        kernel = ops.cast(self.c_proj.kernel, heads.dtype)
        kernel = ops.reshape(kernel, (heads.shape[1], heads.shape[3], kernel.shape[1]))
        return ops.einsum("bhlk,hkd->bld", heads, kernel) + ops.cast(self.c_proj.bias, heads.dtype)


@keras.saving.register_keras_serializable(package="algpt2")
class FeedForward(SeededLayer):
    """D -> feed_forward_size -> D with tanh-approximated gelu."""

    def __init__(self, config: GPTConfig, rng: np.random.Generator, **kwargs: Any):
        """Makes the layer, its parameters not yet created; arguments as of `CausalSelfAttention`."""
        super().__init__(config, **kwargs)
        hidden, policy = config.feed_forward_size, self.dtype_policy
        into, out_of = normal_initializer(INITIAL_STDDEV, rng), normal_initializer(residual_stddev(config), rng)
        self.c_fc = keras.layers.Dense(hidden, kernel_initializer=into, dtype=policy, name="c_fc")
        self.c_proj = keras.layers.Dense(config.d_model, kernel_initializer=out_of, dtype=policy, name="c_proj")

    def build(self, input_shape: Shape) -> None:
        """Creates the parameters for inputs of shape (B, L, D)."""
        self.c_fc.build(input_shape)
        self.c_proj.build((*input_shape[:-1], self.config.feed_forward_size))

    def call(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        return self.c_proj(ops.gelu(self.c_fc(x), approximate=True))


@keras.saving.register_keras_serializable(package="algpt2")
class Block(SeededLayer):
    """A pre-norm transformer block. It is applied several times when layers are shared.

    Its two parts, attention and feed-forward, each with its layer norm, can be shared by different applications. So a
    block can lack one of them, where the model has more of the other.
    """

    def __init__(self, config: GPTConfig, rng: np.random.Generator, index: int = 0, **kwargs: Any):
        """Makes the block, its parameters not yet created.

        Args:
          config: of the model.
          rng: from which each kernel's seed is drawn.
          index: the block's number, which is that of the two sets of parameters that it holds.
          kwargs: `dtype`, `name` and what else every Keras layer takes.
        """
        super().__init__(config, **kwargs)
        self.index = index
        self.has_attention = index < config.n_attention
        self.has_feed_forward = index < config.n_feed_forward
        # Keras numbers the variables of a file in this order, which is that of `GPT.named_parameters`.
        if self.has_attention:
            self.ln_1 = layer_norm(self.dtype_policy, "ln_1")
        if self.has_feed_forward:
            self.ln_2 = layer_norm(self.dtype_policy, "ln_2")
        if self.has_attention:
            self.attn = CausalSelfAttention(config, rng, dtype=self.dtype_policy, name="attn")
        if self.has_feed_forward:
            self.mlp = FeedForward(config, rng, dtype=self.dtype_policy, name="mlp")

    def build(self, input_shape: Shape) -> None:
        """Creates the parameters for inputs of shape (B, L, D)."""
        layers = [self.ln_1, self.attn] if self.has_attention else []
        for layer in [*layers, *([self.ln_2, self.mlp] if self.has_feed_forward else [])]:
            layer.build(input_shape)

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs."""
        return {**super().get_config(), "index": self.index}

    def call(
        self,
        x: Tensor,
        dropout_seed: TensorLike | None = None,
        application: Integer = 0,
        documents: TensorLike | None = None,
    ) -> Tensor:
        """Returns the residual stream after both parts of a plain block, (B, L, D).

        Args:
          x: the residual stream, (B, L, D).
          dropout_seed: int32 (2,), or None without dropout.
          application: which of the model's block applications this is, from 0: a shared block draws new masks in each.
          documents: int32 (B, L) or None, as of `CausalSelfAttention`.
        """
        place = Place(application, dropout_seed, documents=documents)
        return self.feed_forward(self.attend(x, place), place)

    def attend(self, x: Tensor, place: "Place") -> Tensor:
        """Returns the residual stream after the attention, (B, L, D)."""
        site = _first_site(place.application)
        attended = self.attn(self.ln_1(x), dropout_seed=place.dropout_seed, first_site=site, documents=place.documents)
        return x + self._dropped(attended, place, site + 1)

    def attend_with_cache(
        self, x: Tensor, cache: LayerCache, slot: Integer, visible: Tensor
    ) -> tuple[Tensor, LayerCache]:
        """Returns what `attend` would without dropout, and the new cache: see `CausalSelfAttention`."""
        attended, cache = self.attn.call_with_cache(self.ln_1(x), cache, slot, visible)
        return x + attended, cache

    def feed_forward(self, x: Tensor, place: "Place") -> Tensor:
        """Returns the residual stream after the feed-forward part, (B, L, D)."""
        return x + self._dropped(self.mlp(self.ln_2(x)), place, _first_site(place.application) + 2)

    def _dropped(self, x: Tensor, place: "Place", site: Integer) -> Tensor:
        return Dropout(self.config.dropout, place.dropout_seed, site)(x)


class Place(NamedTuple):
    """Where in the model a block is applied, and what it finds there.

    Attributes:
      application: which of the model's block applications this is, from 0.
      dropout_seed: int32 (2,), or None without dropout.
      documents: int32 (B, L) or None, as of `CausalSelfAttention`.
    """

    application: Integer
    dropout_seed: TensorLike | None = None
    documents: TensorLike | None = None


def scaled(x: Tensor, scale: float) -> Tensor:
    """Returns x times a scale in the dtype of x; at 1 the graph gets no product."""
    return x if scale == 1 else x * ops.cast(scale, x.dtype)


def _first_site(application: Integer) -> Integer:
    """Returns the first dropout site of a block application; site 0 is that of the embeddings."""
    return 1 + DROPOUTS_PER_BLOCK * application


def residual_stddev(config: GPTConfig) -> float:
    """Returns the standard deviation of the kernels whose outputs are added to the residual stream.

    There are 2 n_layer such additions, so GPT-2 divides by the square root of that. The outputs of a shared block are
    alike, so their sum grows faster than that of independent blocks; with this division the stream of `algpt2` still
    leaves its 12 applications with a standard deviation below 1 (docs/design/model.md, initialisation). The ALGPT-2 of
    2020 did not divide.
    """
    return INITIAL_STDDEV / ((2 * config.n_layer) ** 0.5 if config.initialization == "scaled" else 1.0)
