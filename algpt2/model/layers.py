"""The parts of a GPT: causal self-attention, feed-forward, block.

Written with `keras.ops`. Attributes carry GPT-2's published names (`ln_1`, `attn.c_attn`, ...), which are also the
names in a checkpoint. Shapes: B batch, L positions, S cached positions, D d_model, H heads, K head size,
F feed-forward.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from algpt2.config.model import GPTConfig
from algpt2.model.attention import causal_attention, masked_scores
from algpt2.model.dropout import dropout

LAYER_NORM_EPSILON = 1e-5
INITIAL_STDDEV = 0.02
DROPOUT_SITES_PER_BLOCK = 3


def normal(stddev: float, rng: np.random.Generator) -> keras.initializers.Initializer:
    """Returns a normal initializer with a seed of its own, drawn from `rng`."""
    return keras.initializers.RandomNormal(stddev=stddev, seed=int(rng.integers(2**31)))


def layer_norm(dtype: Any, name: str) -> keras.layers.LayerNormalization:
    """Returns a layer norm over the last axis, whose statistics are float32 under every dtype policy."""
    return keras.layers.LayerNormalization(epsilon=LAYER_NORM_EPSILON, dtype=dtype, name=name)


class CausalSelfAttention(keras.layers.Layer):
    """Multi-head attention in which a position sees itself and earlier ones; softmax in float32."""

    def __init__(self, config: GPTConfig, rng: np.random.Generator, **kwargs: Any):
        super().__init__(**kwargs)
        self.config = config
        d_model = config.d_model
        self.c_attn = keras.layers.Dense(
            3 * d_model, kernel_initializer=normal(INITIAL_STDDEV, rng), dtype=self.dtype_policy, name="c_attn"
        )
        self.c_proj = keras.layers.Dense(
            d_model, kernel_initializer=normal(residual_stddev(config), rng), dtype=self.dtype_policy, name="c_proj"
        )

    def build(self, input_shape: Any) -> None:
        """Creates the parameters for inputs of shape (B, L, D)."""
        self.c_attn.build(input_shape)
        self.c_proj.build(input_shape)

    def call(self, x: Any, dropout_seed: Any = None, first_site: int = 0, cache: Any = None, position: Any = 0) -> Any:
        """(B, L, D) -> (B, L, D), and with a cache also the cache with these positions' keys and values in it.

        Args:
          x: (B, L, D).
          dropout_seed: int32 (2,) or None.
          first_site: dropout site of the attention weights.
          cache: (keys, values), each (B, H, S, K), or None.
          position: the position of x[:, 0]; scalar int32.
        """
        query, key, value = self._query_key_value(x)
        if cache is None:
            attended = causal_attention(query, key, value, self.config.dropout, dropout_seed, first_site)
            return self._project(attended)
        key, value = cache = tuple(
            ops.slice_update(old, (0, 0, position, 0), new) for old, new in zip(cache, (key, value), strict=True)
        )
        weights = ops.softmax(masked_scores(query, key, position), axis=-1)
        return self._project(ops.matmul(ops.cast(weights, value.dtype), value)), cache

    def _query_key_value(self, x: Any) -> list[Any]:
        """(B, L, D) -> three of (B, H, L, K).

        By three products: one whose result is split would keep both the result and its parts for the backward pass.
        """
        heads, size = self.config.n_head, self.config.head_size
        kernels = ops.split(ops.cast(self.c_attn.kernel, x.dtype), 3, axis=-1)
        biases = ops.split(ops.cast(self.c_attn.bias, x.dtype), 3)
        return [
            ops.einsum("bld,dhk->bhlk", x, ops.reshape(kernel, (-1, heads, size))) + ops.reshape(bias, (heads, 1, size))
            for kernel, bias in zip(kernels, biases, strict=True)
        ]

    def _project(self, heads: Any) -> Any:
        """(B, H, L, K) -> (B, L, D)."""
        kernel = ops.cast(self.c_proj.kernel, heads.dtype)
        kernel = ops.reshape(kernel, (heads.shape[1], heads.shape[3], kernel.shape[1]))
        return ops.einsum("bhlk,hkd->bld", heads, kernel) + ops.cast(self.c_proj.bias, heads.dtype)


class FeedForward(keras.layers.Layer):
    """D -> F -> D with tanh-approximated gelu."""

    def __init__(self, config: GPTConfig, rng: np.random.Generator, **kwargs: Any):
        super().__init__(**kwargs)
        self.config = config
        self.c_fc = keras.layers.Dense(
            config.feed_forward_size,
            kernel_initializer=normal(INITIAL_STDDEV, rng),
            dtype=self.dtype_policy,
            name="c_fc",
        )
        self.c_proj = keras.layers.Dense(
            config.d_model,
            kernel_initializer=normal(residual_stddev(config), rng),
            dtype=self.dtype_policy,
            name="c_proj",
        )

    def build(self, input_shape: Any) -> None:
        """Creates the parameters for inputs of shape (B, L, D)."""
        self.c_fc.build(input_shape)
        self.c_proj.build((*input_shape[:-1], self.config.feed_forward_size))

    def call(self, x: Any) -> Any:
        """(B, L, D) -> (B, L, D)."""
        return self.c_proj(ops.gelu(self.c_fc(x), approximate=True))


class Block(keras.layers.Layer):
    """A pre-norm transformer block. Applied several times when layers are shared."""

    def __init__(self, config: GPTConfig, rng: np.random.Generator, **kwargs: Any):
        super().__init__(**kwargs)
        self.config = config
        self.ln_1 = layer_norm(self.dtype_policy, "ln_1")
        self.attn = CausalSelfAttention(config, rng, dtype=self.dtype_policy, name="attn")
        self.ln_2 = layer_norm(self.dtype_policy, "ln_2")
        self.mlp = FeedForward(config, rng, dtype=self.dtype_policy, name="mlp")

    def build(self, input_shape: Any) -> None:
        """Creates the parameters for inputs of shape (B, L, D)."""
        for layer in (self.ln_1, self.attn, self.ln_2, self.mlp):
            layer.build(input_shape)

    def call(self, x: Any, dropout_seed: Any = None, application: int = 0, cache: Any = None, position: Any = 0) -> Any:
        """(B, L, D) -> (B, L, D), and with a cache also the new cache (see `CausalSelfAttention.call`).

        `application` counts the model's block applications from 0: a shared block draws new masks in each.
        """
        site = 1 + DROPOUT_SITES_PER_BLOCK * application
        attended = self.attn(self.ln_1(x), dropout_seed=dropout_seed, first_site=site, cache=cache, position=position)
        if cache is not None:
            attended, cache = attended
        x = x + dropout(attended, self.config.dropout, dropout_seed, site + 1)
        x = x + dropout(self.mlp(self.ln_2(x)), self.config.dropout, dropout_seed, site + 2)
        return x if cache is None else (x, cache)


def residual_stddev(config: GPTConfig) -> float:
    """Standard deviation of the projections into the residual stream, which 2 n_layer of them add up in (GPT-2).

    A shared block's outputs add up coherently, faster than GPT-2's independent ones; with this scaling the stream
    still starts out below 1 (`docs/design.md`, initialisation).
    """
    return INITIAL_STDDEV / (2 * config.n_layer) ** 0.5
