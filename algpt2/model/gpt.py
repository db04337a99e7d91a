"""`GPT`: embeddings, blocks (own or shared), a final layer norm and the tied head."""

import functools
from typing import Any

import keras
import numpy as np
from keras import ops

from algpt2.config.model import GPTConfig
from algpt2.model.dropout import dropout
from algpt2.model.layers import INITIAL_STDDEV, Block, layer_norm, normal
from algpt2.model.losses import head_logits
from algpt2.model.rematerialisation import rematerialised, rematerialised_loop

Cache = tuple[tuple[Any, Any], ...]


class GPT(keras.Model):
    """GPT-2, or ALGPT-2 when the config factorizes embeddings or shares layers.

    A plain `keras.Model`: int32 ids (B, L) -> float32 logits (B, L, V). Parameters are float32; `dtype` is the
    policy of the computation (`"mixed_bfloat16"` on TPU). Initial parameters are a function of `seed`.
    """

    def __init__(self, config: GPTConfig, seed: int = 0, dtype: Any = "float32", **kwargs: Any):
        super().__init__(dtype=dtype, **kwargs)
        self.config = config
        rng = np.random.default_rng(seed)
        self.wte = self._table("wte", config.vocab_size, rng)
        self.wpe = self._table("wpe", config.seq_len, rng)
        if config.embedding_size:
            self.embedding_projection = self._projection("embedding_projection", config.d_model, rng)
            self.head_projection = self._projection("head_projection", config.embedding_size, rng)
        self.h = [Block(config, rng, dtype=self.dtype_policy, name=f"h_{i}") for i in range(config.n_block)]
        self.ln_f = layer_norm(self.dtype_policy, "ln_f")
        self.dropout_seeds = keras.random.SeedGenerator(seed)
        self.build((None, config.seq_len))

    def _table(self, name: str, rows: int, rng: np.random.Generator) -> Any:
        # No autocast: the head needs the float32 table, the lookup casts only the rows it took.
        shape = (rows, self.config.table_width)
        return self.add_weight(name=name, shape=shape, initializer=normal(INITIAL_STDDEV, rng), autocast=False)

    def _projection(self, name: str, width: int, rng: np.random.Generator) -> keras.layers.Dense:
        """E -> D or D -> E; keeps the variance of its input, so that a factorized stream starts as wide as GPT-2's."""
        fan_in = self.config.embedding_size if width == self.config.d_model else self.config.d_model
        initializer = normal(fan_in**-0.5, rng)
        return keras.layers.Dense(width, kernel_initializer=initializer, dtype=self.dtype_policy, name=name)

    def build(self, input_shape: Any) -> None:
        """Creates all parameters; called by the constructor."""
        stream = (*input_shape, self.config.d_model)
        if self.config.embedding_size:
            self.embedding_projection.build((*input_shape, self.config.embedding_size))
            self.head_projection.build(stream)
        for block in self.h:
            block.build(stream)
        self.ln_f.build(stream)

    def call(
        self,
        ids: Any,
        training: bool = False,
        dropout_seed: Any = None,
        cache: Cache | None = None,
        position: Any = 0,
    ) -> Any:
        """Returns float32 logits (B, L, V) of the token after each position; with a cache, (logits, new cache).

        Args:
          ids: int32 (B, L), L at most seq_len.
          training: whether dropout acts.
          dropout_seed: int32 (2,), of which the masks are a pure function. None while training: drawn from the
            model's own seed generator, as `fit` needs it.
          cache: one (keys, values) per layer application, each (B, H, S, K): see `empty_cache`.
          position: position of ids[:, 0]; only with a cache can it be other than 0.
        """
        x, new_cache = self._final_states(ids, training, dropout_seed, cache, position)
        logits = head_logits(x, self.wte)
        return logits if cache is None else (logits, new_cache)

    def hidden_states(self, ids: Any, training: bool = False, dropout_seed: Any = None, remat: str = "none") -> Any:
        """Returns what the tied head is applied to, (B, L, E) in the compute dtype; arguments as in `call`.

        `remat` is what the backward pass computes anew: "none" or "block".
        """
        return self._final_states(ids, training, dropout_seed, None, 0, remat)[0]

    def _final_states(
        self,
        ids: Any,
        training: bool,
        dropout_seed: Any,
        cache: Cache | None,
        position: Any,
        remat: str = "none",
    ) -> tuple[Any, Cache]:
        if not training:
            dropout_seed = None
        elif dropout_seed is None and self.config.dropout:
            # Hashed, because the generator counts up by one, as the sites within a model do.
            dropout_seed = keras.random.randint((2,), 0, 2**31 - 1, dtype="int32", seed=self.dropout_seeds)
        x = self.embed(ids, position, dropout_seed)
        new_cache = []
        if cache is None:
            x = self._apply_blocks(x, dropout_seed, remat)
        else:
            for application, layer_cache in enumerate(cache):
                block = self.h[application % self.config.n_block]
                x, layer_cache = block(x, application=application, cache=layer_cache, position=position)
                new_cache.append(layer_cache)
        x = self.ln_f(x)
        if self.config.embedding_size:
            x = self.head_projection(x)
        return x, tuple(new_cache)

    def _apply_blocks(self, x: Any, dropout_seed: Any, remat: str) -> Any:
        """(B, L, D) -> (B, L, D)."""

        def apply(block: Block, x: Any, application: Any) -> Any:
            return block(x, dropout_seed=dropout_seed, application=application)

        if remat == "block" and self.config.share_layers:
            return rematerialised_loop(functools.partial(apply, self.h[0]), x, self.config.n_layer)
        for application in range(self.config.n_layer):
            apply_own = functools.partial(apply, self.h[application % self.config.n_block])
            x = rematerialised(apply_own, x, application) if remat == "block" else apply_own(x, application)
        return x

    def embed(self, ids: Any, position: Any = 0, dropout_seed: Any = None) -> Any:
        """int32 (B, L) -> (B, L, D): token plus position, then E -> D if factorized."""
        positions = position + ops.arange(ids.shape[1], dtype="int32")
        x = ops.take(self.wte, ids, axis=0) + ops.take(self.wpe, positions, axis=0)
        x = ops.cast(x, self.compute_dtype)
        if self.config.embedding_size:
            x = self.embedding_projection(x)
        return dropout(x, self.config.dropout, dropout_seed, site=0)

    def empty_cache(self, batch_size: int) -> Cache:
        """Returns zeros for the keys and values of every layer application, each (B, H, seq_len, K)."""
        shape = (batch_size, self.config.n_head, self.config.seq_len, self.config.head_size)
        return tuple(
            (ops.zeros(shape, self.compute_dtype), ops.zeros(shape, self.compute_dtype))
            for _ in range(self.config.n_layer)
        )

    def named_parameters(self) -> dict[str, keras.Variable]:
        """Returns every parameter under its published GPT-2 name; a shared block is `h.0`."""
        named = {"wte.weight": self.wte, "wpe.weight": self.wpe}
        if self.config.embedding_size:
            named |= _dense_names("embedding_projection", self.embedding_projection)
            named |= _dense_names("head_projection", self.head_projection)
        for i, block in enumerate(self.h):
            named |= _layer_norm_names(f"h.{i}.ln_1", block.ln_1) | _layer_norm_names(f"h.{i}.ln_2", block.ln_2)
            named |= _dense_names(f"h.{i}.attn.c_attn", block.attn.c_attn)
            named |= _dense_names(f"h.{i}.attn.c_proj", block.attn.c_proj)
            named |= _dense_names(f"h.{i}.mlp.c_fc", block.mlp.c_fc)
            named |= _dense_names(f"h.{i}.mlp.c_proj", block.mlp.c_proj)
        return named | _layer_norm_names("ln_f", self.ln_f)

    def copy_parameters(self, other: "GPT") -> None:
        """Sets every parameter to that of another model of the same shapes, whatever devices either lies on."""
        theirs = other.named_parameters()
        for name, parameter in self.named_parameters().items():
            parameter.assign(theirs[name].numpy())

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs."""
        return {**super().get_config(), "config": self.config.to_dict()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "GPT":
        """Returns a new model from `get_config`'s fields."""
        return cls(**{**config, "config": GPTConfig(**config["config"])})


def _dense_names(prefix: str, layer: keras.layers.Dense) -> dict[str, keras.Variable]:
    return {f"{prefix}.weight": layer.kernel, f"{prefix}.bias": layer.bias}


def _layer_norm_names(prefix: str, layer: keras.layers.LayerNormalization) -> dict[str, keras.Variable]:
    return {f"{prefix}.weight": layer.gamma, f"{prefix}.bias": layer.beta}
