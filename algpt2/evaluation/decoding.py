"""The loop that makes text, inside a graph: a key-value cache, rows of different lengths, and a number of steps.

All rows of a batch end in the same slot of the cache, so that each step writes one slot. Rows that are shorter begin
in a later slot. Shapes: B rows, S slots, L tokens of a prompt.
"""

from typing import NamedTuple

import tensorflow as tf
from keras import ops

from algpt2.evaluation.sampling import Draws, Sampling, next_tokens
from algpt2.model.gpt import GPT, Cache
from algpt2.model.losses import head_logits
from algpt2.model.tensors import Tensor, TensorLike

CHUNK_SLOTS = 64
# How many lengths a cache can have, which is how many graphs there are at most for one batch size.
CACHE_LENGTHS = 4


class Texts(NamedTuple):
    """Texts that grow together, with what the model remembers of them.

    Attributes:
      ids: int32 (B, S), in each slot a token.
      first_slots: int32 (B,), where each text begins.
      length: int32 (), the slots that are filled.
      is_ended: bool (B,), whether EOS was drawn. EOS stands in all slots from there on.
      n_cached: int32 (), the slots whose keys and values are in the cache.
    """

    ids: Tensor
    first_slots: Tensor
    length: Tensor
    is_ended: Tensor
    n_cached: Tensor


class Drawing(NamedTuple):
    """How tokens are drawn: Python values, which are part of the graph, or with `GivenSampling` tensors.

    Attributes:
      eos_id: at which a text ends. Rows of the table behind it are no tokens, and are never drawn.
      config: temperature and filters; its `seed` and `max_new_tokens` are not used.
    """

    eos_id: int
    config: Sampling


def n_slots_for(n_tokens: int, seq_len: int) -> int:
    """Returns the slots of a cache for texts of a length: rounded up to a quarter of the model's positions."""
    step = -(-seq_len // CACHE_LENGTHS)
    return min(-(-n_tokens // step) * step, seq_len)


def begin(prompts: TensorLike, lengths: TensorLike, is_ended: TensorLike, n_slots: int) -> Texts:
    """Returns texts of prompts, which all end in the same slot.

    Args:
      prompts: int32 (B, L), each from its first column on; L is known when the graph is made, at most `n_slots`.
      lengths: int32 (B,), of the prompts, at least 1.
      is_ended: bool (B,), true for a row that needs no text.
      n_slots: of the cache.
    """
    lengths = ops.convert_to_tensor(lengths)
    length = ops.max(lengths)
    first_slots = length - lengths
    columns = ops.arange(n_slots, dtype="int32")[None] - first_slots[:, None]
    ids = ops.take_along_axis(prompts, ops.clip(columns, 0, prompts.shape[1] - 1), axis=1)
    return Texts(ids, first_slots, length, ops.convert_to_tensor(is_ended), ops.zeros((), "int32"))


def extend(
    model: GPT, texts: Texts, cache: Cache, n_steps: TensorLike, seed: TensorLike, samples: TensorLike, drawing: Drawing
) -> tuple[Texts, Cache]:
    """Returns the texts with up to `n_steps` more tokens, and their cache; fewer if all texts end before.

    Each step takes in the last token and draws the next, so no pass is made for a token that nobody asked for. What
    the cache lacks beside that, which is a prompt, is taken in before, in chunks of a fixed length.

    Args:
      model: whose parameters are read.
      texts: from `begin` or an earlier call; there must be slots for the new tokens.
      cache: of `texts`.
      n_steps: int32 ().
      seed: int32 (), of the draws.
      samples: int32 (B,), tells apart the texts of one prompt.
      drawing: how tokens are drawn.
    """
    cache = _take_in(model, texts, cache)
    last_length = texts.length + n_steps

    def goes_on(texts: Texts, cache: Cache) -> Tensor:
        return (texts.length < last_length) & ~ops.all(texts.is_ended)

    def step(texts: Texts, cache: Cache) -> tuple[Texts, Cache]:
        logits, cache = _next_logits(model, texts, cache)
        draws = Draws(seed, samples, texts.length - texts.first_slots)
        tokens = next_tokens(_drawable(logits, drawing.eos_id), _seen(texts, logits, drawing), draws, drawing.config)
        return _with_tokens(texts, ops.cast(tokens, "int32"), drawing.eos_id), cache

    texts, cache = tf.while_loop(goes_on, step, (texts, cache))
    return texts._replace(n_cached=texts.length - 1), cache


def continue_prompts(
    model: GPT, prompts: Tensor, lengths: Tensor, n_new_tokens: Tensor, seed: Tensor, drawing: Drawing
) -> Tensor:
    """Returns int32 (B, seq_len): texts that all have their first new token in slot max(lengths), and EOS at the end.

    It needs nothing but tensors, so it can be exported. Each row is sample 0 of its prompt, as in `generate.py`.

    Args:
      model: whose parameters are read.
      prompts: int32 (B, seq_len), each from its first column on; B may be unknown to the graph.
      lengths: int32 (B,), of the prompts, at least 1.
      n_new_tokens: int32 (); with the longest prompt at most seq_len.
      seed: int32 (), of the draws.
      drawing: how tokens are drawn.
    """
    rows, n_slots = ops.shape(prompts)[0], model.config.seq_len
    texts = begin(prompts, lengths, ops.zeros_like(lengths, "bool"), n_slots)
    cache, sample_0 = model.empty_cache(rows, n_slots), ops.zeros_like(lengths)
    texts, _ = extend(model, texts, cache, n_new_tokens, seed, sample_0, drawing)
    return ops.where(ops.arange(n_slots, dtype="int32") < texts.length, texts.ids, drawing.eos_id)


def _take_in(model: GPT, texts: Texts, cache: Cache) -> Cache:
    """Returns the cache with all tokens but the last.

    The last chunk ends with the last of them, and may overlap the one before, whose keys it computes once more. If
    there are fewer than a chunk, the keys of what stands behind them are hidden until they are overwritten.
    """
    last = texts.length - 1
    n_slots = texts.ids.shape[1]
    chunk = min(CHUNK_SLOTS, -(-n_slots // CACHE_LENGTHS))
    documents = model.documents_of(texts.ids)

    def step(n_cached: Tensor, cache: Cache) -> tuple[Tensor, Cache]:
        slot = ops.minimum(n_cached, ops.maximum(last - chunk, 0))
        ids = ops.slice(texts.ids, (0, slot), (ops.shape(texts.ids)[0], chunk))
        _, cache = model.call_with_cache(ids, cache, slot, texts.first_slots, documents)
        return slot + chunk, cache

    return tf.while_loop(lambda n_cached, _: n_cached < last, step, (texts.n_cached, cache))[1]


def _next_logits(model: GPT, texts: Texts, cache: Cache) -> tuple[Tensor, Cache]:
    slot = texts.length - 1
    ids = ops.slice(texts.ids, (0, slot), (ops.shape(texts.ids)[0], 1))
    hidden, cache = model.call_with_cache(ids, cache, slot, texts.first_slots, model.documents_of(texts.ids))
    return head_logits(hidden[:, 0], model.head_table), cache


def _drawable(logits: Tensor, eos_id: int) -> Tensor:
    return ops.where(ops.arange(logits.shape[-1]) <= eos_id, logits, -float("inf"))


def _seen(texts: Texts, logits: Tensor, drawing: Drawing) -> Tensor | None:
    """Returns bool (B, V), which tokens each text has; None if nobody asks."""
    if drawing.config.repetition_penalty == 1:
        return None
    slots, vocab_size = ops.arange(texts.ids.shape[1], dtype="int32"), logits.shape[-1]
    is_text = (slots >= texts.first_slots[:, None]) & (slots < texts.length)
    columns = ops.where(is_text, texts.ids, vocab_size)
    rows = ops.broadcast_to(ops.arange(ops.shape(columns)[0], dtype="int32")[:, None], ops.shape(columns))
    counts = ops.zeros((ops.shape(columns)[0], vocab_size + 1), "int32")
    counts = tf.tensor_scatter_nd_add(counts, ops.stack([rows, columns], axis=-1), ops.ones_like(columns))
    return counts[:, :vocab_size] > 0


def _with_tokens(texts: Texts, tokens: Tensor, eos_id: int) -> Texts:
    tokens = ops.where(texts.is_ended, eos_id, tokens)
    ids = ops.slice_update(texts.ids, (0, texts.length), tokens[:, None])
    return texts._replace(ids=ids, length=texts.length + 1, is_ended=texts.is_ended | (tokens == eos_id))
