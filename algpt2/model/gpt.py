"""`GPT`: embeddings, blocks (own or shared), a final layer norm and the tied head."""

import functools
from collections.abc import Mapping, MutableMapping
from typing import Any

import keras
import numpy as np
from keras import ops

from algpt2.config.model import GPTConfig
from algpt2.model.attention_bias import causal_mask
from algpt2.model.dropout import Dropout
from algpt2.model.layers import (
    INITIAL_STDDEV,
    Block,
    LayerCache,
    Place,
    Shape,
    layer_norm,
    normal_initializer,
    rms_norm,
    scaled,
)
from algpt2.model.losses import head_logits
from algpt2.model.rematerialisation import rematerialised, rematerialised_loop
from algpt2.model.sizes import parameter_shapes
from algpt2.model.tensors import Integer, Tensor, TensorLike

Cache = tuple[LayerCache, ...]
# Under this name a file of Keras holds the state of the dropout seeds.
SEEDS_KEY = "dropout_seeds"


@keras.saving.register_keras_serializable(package="algpt2")
class GPT(keras.Model):
    """GPT-2, or ALGPT-2 when the config factorizes embeddings or shares layers.

    It is a plain `keras.Model`: `fit` trains it, and calling it with int32 ids (B, L) gives float32 logits (B, L, V) of
    the token after each position. Parameters are float32, and they are created by the constructor.

    Example:

    >>> import numpy as np
    >>> import algpt2
    >>> config = algpt2.GPTConfig(vocab_size=300, seq_len=16, n_layer=2, n_head=2, d_model=32, share_layers=True)
    >>> model = algpt2.GPT(config)
    >>> model.count_params()
    22880
    >>> model(np.zeros((1, 8), "int32")).shape
    TensorShape([1, 8, 300])
    """

    def __init__(
        self,
        config: GPTConfig,
        seed: int = 0,
        dtype: str | dict[str, Any] | keras.DTypePolicy = "float32",
        **kwargs: Any,
    ):
        """Makes the model with initial parameters.

        Args:
          config: the shape of the model.
          seed: of the initial parameters, which are a pure function of it, and of the dropout masks under `fit`.
          dtype: the policy of the computation: `"float32"`, or `"mixed_bfloat16"` on TPU.
          kwargs: `name` and what else every Keras model takes.
        """
        super().__init__(dtype=dtype, **kwargs)
        self.config = config
        self.seed = seed
        rng = np.random.default_rng(seed)
        self.wte = self._table("wte", config.vocab_size, rng)
        if config.n_position_rows:
            self.wpe = self._table("wpe", config.n_position_rows, rng)
        if config.untied_head:
            self.lm_head = self._table("lm_head", config.vocab_size, rng)
        if config.tied_projections:
            shape = (config.embedding_size,)
            self.head_bias = self.add_weight(name="head_bias", shape=shape, initializer="zeros", autocast=False)
        if config.embedding_norm:
            self.embedding_norm = rms_norm(self.dtype_policy, "embedding_norm")
        if config.embedding_size:
            self.embedding_projection = self._projection("embedding_projection", config.d_model, rng)
        if config.embedding_size and not config.tied_projections:
            self.head_projection = self._projection("head_projection", config.embedding_size, rng)
        self.h = [Block(config, rng, i, dtype=self.dtype_policy, name=f"h_{i}") for i in range(config.n_block)]
        self.ln_f = layer_norm(self.dtype_policy, "ln_f")
        self.dropout_seeds = keras.random.SeedGenerator(seed)
        self.build((None, config.seq_len))

    @classmethod
    def from_preset(cls, name: str, **kwargs: Any) -> "GPT":
        """Returns a new model of a named shape. Its parameters are initial ones: presets hold no trained weights.

        Args:
          name: one of `algpt2.config.model.preset_names()`, for example "gpt2" or "algpt2".
          kwargs: `seed`, `dtype` and what else the constructor takes.

        Raises:
          UserError: no such name.
        """
        return cls(GPTConfig.from_preset(name), **kwargs)

    def _table(self, name: str, rows: int, rng: np.random.Generator) -> keras.Variable:
        # Without autocast: the head needs the float32 table, and `embed` casts only the rows that it looks up.
        shape, initializer = (rows, self.config.table_width), normal_initializer(INITIAL_STDDEV, rng)
        return self.add_weight(name=name, shape=shape, initializer=initializer, autocast=False)

    def _projection(self, name: str, width: int, rng: np.random.Generator) -> keras.layers.Dense:
        """E -> D or D -> E; keeps the variance of its input, so that a factorized stream starts as wide as GPT-2's."""
        fan_in = self.config.embedding_size if width == self.config.d_model else self.config.d_model
        stddev = fan_in**-0.5 if self.config.initialization == "scaled" else INITIAL_STDDEV
        initializer = normal_initializer(stddev, rng)
        return keras.layers.Dense(width, kernel_initializer=initializer, dtype=self.dtype_policy, name=name)

    def build(self, input_shape: Shape) -> None:
        """Creates all parameters; called by the constructor."""
        stream = (*input_shape, self.config.d_model)
        if self.config.embedding_norm:
            self.embedding_norm.build((*input_shape, self.config.table_width))
        if self.config.embedding_size:
            self.embedding_projection.build((*input_shape, self.config.embedding_size))
        if self.config.embedding_size and not self.config.tied_projections:
            self.head_projection.build(stream)
        for block in self.h:
            block.build(stream)
        self.ln_f.build(stream)

    def call(self, ids: TensorLike, training: bool = False, dropout_seed: TensorLike | None = None) -> Tensor:
        """Returns the logits of the token after each position, float32 (B, L, V).

        Args:
          ids: int32 (B, L), L at most seq_len if there is a position table.
          training: whether dropout acts.
          dropout_seed: int32 (2,), of which the masks are a pure function. If it is None in training, one is drawn from
            the model's own seed generator, because `fit` passes none.
        """
        return head_logits(self.hidden_states(ids, training, dropout_seed), self.head_table)

    def documents_of(self, ids: TensorLike) -> Tensor | None:
        """Returns the number of the document that each token is of, int32 (B, L); None if attention crosses documents.

        A document begins with the id `document_eos_id`. What stands before the first of them in a row, such as the rest
        of a document that the row before began, is a document too.

        Args:
          ids: int32 (B, L).
        """
        if self.config.document_eos_id is None:
            return None
        # By a product, because XLA computes a cumulative sum anew within every operation that reads it.
        length = ops.shape(ids)[1]
        begins = ops.cast(ops.equal(ids, self.config.document_eos_id), "float32")
        begun = ops.cast(causal_mask(length, length, 0), "float32")
        return ops.cast(ops.matmul(begins, ops.transpose(begun)), "int32")

    def call_with_cache(
        self, ids: TensorLike, cache: Cache, slot: Integer, first_slots: TensorLike, documents: TensorLike | None
    ) -> tuple[Tensor, Cache]:
        """Returns what the head's table is applied to, (B, L, E or D), and the cache with these tokens. No dropout.

        A row's tokens lie in slots of the cache, one behind the other; rows may begin in different slots, so that
        texts of different lengths end in the same one.

        Args:
          ids: int32 (B, L), the tokens of the slots from `slot` on; L is known when the graph is made.
          cache: keys and values of the slots before, from `empty_cache` or an earlier call.
          slot: int32 (), that of ids[:, 0]; slot + L is at most the slots of the cache.
          first_slots: int32 (B,), the slot of each row's first token, which has position 0. What stands before it is
            never seen.
          documents: int32 (B, slots of the cache), `documents_of` the ids in all slots.
        """
        slots = slot + ops.arange(ids.shape[1], dtype="int32")
        x = self._embed_at(ids, ops.maximum(slots - ops.convert_to_tensor(first_slots)[:, None], 0))
        cached = ops.arange(cache[0][0].shape[1], dtype="int32")
        visible = (cached <= slots[:, None]) & (cached >= ops.convert_to_tensor(first_slots)[:, None, None])
        if documents is not None:
            of_tokens = ops.slice(documents, (0, slot), ops.shape(ids))
            visible = visible & (of_tokens[:, :, None] == documents[:, None, :])
        new_cache = []
        for application, layer_cache in enumerate(cache):
            attention, feed_forward = self._parts_of(application)
            x, layer_cache = attention.attend_with_cache(x, layer_cache, slot, visible)
            x = feed_forward.feed_forward(x, Place(application))
            new_cache.append(layer_cache)
        return self._head_input(x), tuple(new_cache)

    def empty_cache(self, batch_size: Integer, n_slots: int) -> Cache:
        """Returns zeros for the keys and values of every layer application, each (B x H, n_slots, K)."""
        shape = (batch_size * self.config.n_head, n_slots, self.config.head_size)
        return tuple(
            (ops.zeros(shape, self.compute_dtype), ops.zeros(shape, self.compute_dtype))
            for _ in range(self.config.n_layer)
        )

    def hidden_states(
        self,
        ids: TensorLike,
        training: bool = False,
        dropout_seed: TensorLike | None = None,
        remat: str = "none",
        n_layer: int | None = None,
    ) -> Tensor:
        """Returns what the head's table is applied to, (B, L, E or D) in the compute dtype.

        Args:
          ids: as in `call`, like `training` and `dropout_seed`.
          training: whether dropout acts.
          dropout_seed: int32 (2,) or None.
          remat: what the backward pass computes anew instead of keeping it: "none" or "block".
          n_layer: how many applications are made, the first ones; None means all.
        """
        if not training:
            dropout_seed = None
        elif dropout_seed is None and self.config.dropout:
            # The generator counts up by one, as the dropout sites within a model do. Its count is hashed, or the masks
            # of one step would come again at other sites in the next.
            dropout_seed = keras.random.randint((2,), 0, 2**31 - 1, dtype="int32", seed=self.dropout_seeds)
        x, place = self.embed(ids, 0, dropout_seed), Place(0, dropout_seed, self.documents_of(ids))
        return self._head_input(self._apply_blocks(x, place, remat, n_layer or self.config.n_layer))

    def embed(self, ids: TensorLike, position: Integer = 0, dropout_seed: TensorLike | None = None) -> Tensor:
        """Returns the sum of token and position embeddings, (B, L, D), projected from E to D if factorized.

        Args:
          ids: int32 (B, L).
          position: int32 (), that of ids[:, 0].
          dropout_seed: int32 (2,), or None without dropout.
        """
        x = self._embed_at(ids, position + ops.arange(ops.shape(ids)[1], dtype="int32"))
        return Dropout(self.config.dropout, dropout_seed, site=0)(x)

    def _embed_at(self, ids: TensorLike, positions: Tensor) -> Tensor:
        """ids (B, L) at positions (L,) or (B, L) -> (B, L, D)."""
        x = ops.take(self.wte, ids, axis=0)
        if self.config.n_position_rows:
            x = x + ops.take(self.wpe, positions, axis=0)
        x = ops.cast(x, self.compute_dtype)
        x = self.embedding_norm(x) if self.config.embedding_norm else x
        return self.embedding_projection(x) if self.config.embedding_size else x

    def _apply_blocks(self, x: Tensor, first_place: Place, remat: str, n_layer: int) -> Tensor:
        """Returns the residual stream after the first `n_layer` applications, (B, L, D)."""

        def apply(parts: tuple[Block, Block], x: Tensor, application: Integer) -> Tensor:
            (attention, feed_forward), place = parts, first_place._replace(application=application)
            return feed_forward.feed_forward(attention.attend(x, place), place)

        all_parts = [self._parts_of(application) for application in range(n_layer)]
        if remat != "none" and self.config.n_block == 1:
            return rematerialised_loop(functools.partial(apply, all_parts[0]), x, n_layer)
        for application, parts in enumerate(all_parts):
            if remat == "none":
                x = apply(parts, x, application)
            else:
                x = rematerialised(functools.partial(apply, parts), x, application)
        return x

    def _parts_of(self, application: int) -> tuple[Block, Block]:
        """Returns the blocks that hold the attention and the feed-forward part of an application."""
        config = self.config
        return self.h[config.attention_sets[application]], self.h[config.feed_forward_sets[application]]

    @property
    def head_table(self) -> keras.Variable:
        """The table, float32 (V, E or D), whose product with the hidden states is the logits."""
        return self.lm_head if self.config.untied_head else self.wte

    def _head_input(self, x: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, E), or (B, L, D) if the embeddings are not factorized."""
        x = self.ln_f(x)
        if self.config.tied_projections:
            kernel, bias = self.embedding_projection.kernel, self.head_bias
            x = ops.matmul(x, ops.cast(ops.transpose(kernel), x.dtype)) + ops.cast(bias, x.dtype)
        elif self.config.embedding_size:
            x = self.head_projection(x)
        return scaled(x, self.config.head_scale)

    def named_parameters(self) -> dict[str, keras.Variable]:
        """Returns every parameter under its published GPT-2 name, in Keras' order, which is that of `parameter_shapes`.

        A set of parameters that is shared is there once: the block of a model with one block is `h.0`.
        """
        return dict(zip(parameter_shapes(self.config), self.weights, strict=True))

    def copy_parameters(self, other: "GPT") -> None:
        """Sets every parameter to that of another model of the same shapes, whatever devices either lies on."""
        theirs = other.named_parameters()
        for name, parameter in self.named_parameters().items():
            parameter.assign(theirs[name].numpy())

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Puts the tables into a Keras file's store, and the state of the dropout seeds, which Keras leaves out."""
        super().save_own_variables(store)
        store[SEEDS_KEY] = self.dropout_seeds.state

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        """Sets what `save_own_variables` has put into the store."""
        tables = {name: store[name] for name in list(store.keys())}
        self.dropout_seeds.state.assign(tables.pop(SEEDS_KEY))
        super().load_own_variables(tables)

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs."""
        return {**super().get_config(), "config": self.config.to_dict(), "seed": self.seed}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "GPT":
        """Returns a new model from `get_config`'s fields."""
        return cls(**{**config, "config": GPTConfig(**config["config"])})
