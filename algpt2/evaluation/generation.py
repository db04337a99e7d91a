"""Text from prompts: in batches, all at once or piece by piece, by one loop inside a graph."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from algpt2.config.sampling import SamplingConfig
from algpt2.devices.compilation import graph_function
from algpt2.errors import UserError
from algpt2.evaluation.decoding import Drawing, Texts, begin, extend, n_slots_for
from algpt2.model.gpt import GPT, Cache
from algpt2.model.tensors import Tensor
from algpt2.text.tokenizer import Tokenizer

PIECE_TOKENS = 8


class Row(NamedTuple):
    """A text to be made: the ids of its prompt, at least one, and a number that tells apart texts of one prompt.

    None in the place of a row fills up a batch, so that its graph serves batches that are not full.
    """

    ids: Sequence[int]
    sample: int = 0


class _Started(NamedTuple):
    """A graph, and what it is called with."""

    graph: tf.types.experimental.PolymorphicFunction
    texts: Texts
    cache: Cache
    samples: np.ndarray


class CachedDecoder:
    """Continues prompts with a key-value cache, each position computed once, without a way back to Python in between.

    A graph is compiled for each number of rows, each of four lengths of the cache (`decoding.n_slots_for`) and each way
    of drawing, at its first use. It serves prompts of all lengths and any number of new tokens.

    Example:

    >>> import algpt2
    >>> from algpt2.config.sampling import SamplingConfig
    >>> from algpt2.evaluation.generation import CachedDecoder, Row
    >>> decoder = CachedDecoder(algpt2.GPT.from_preset("algpt2-tiny"))
    >>> config = SamplingConfig(max_new_tokens=5, temperature=0)
    >>> [len(ids) for ids in decoder.continued([Row([7, 8, 9]), Row([5])], 4095, config)]
    [5, 5]
    """

    def __init__(self, model: GPT, jit_compile: bool = True, least_tokens: int = 1):
        """Prepares for graphs; nothing is compiled yet.

        Args:
          model: whose parameters are read anew in each call.
          jit_compile: whether XLA compiles the graphs where it can.
          least_tokens: for how many tokens a cache has slots at least. Who knows the longest prompt, and adds the new
            tokens to it, has one length of cache for all.
        """
        self.model = model
        self.least_tokens = least_tokens
        self._jit_compile = jit_compile
        self._graphs: dict[Drawing, tf.types.experimental.PolymorphicFunction] = {}

    def continued(self, rows: Sequence[Row | None], eos_id: int, config: SamplingConfig) -> list[list[int]]:
        """Returns up to `max_new_tokens` ids that follow each row, without the EOS that ends it.

        Args:
          rows: what is continued. A row's tokens do not depend on the other rows.
          eos_id: of the tokenizer, its last id. A model's table may have more rows than that; they are never drawn.
          config: how tokens are drawn, and how many. Prompt and new tokens must fit into the model's positions.
        """
        return next(self.pieces(rows, eos_id, config, config.max_new_tokens))

    def pieces(
        self, rows: Sequence[Row | None], eos_id: int, config: SamplingConfig, piece_tokens: int = PIECE_TOKENS
    ) -> Iterator[list[list[int]]]:
        """Yields what `continued` returns, `piece_tokens` at a time; an ended row's further pieces are empty.

        Args:
          rows: as in `continued`, like `eos_id` and `config`.
          eos_id: of the tokenizer.
          config: how tokens are drawn, and how many.
          piece_tokens: most tokens of a piece.
        """
        graph, texts, cache, samples = self._started(rows, eos_id, config)
        first = int(texts.length)
        end = first + config.max_new_tokens
        while first < end:
            n_steps = min(piece_tokens, end - first)
            texts = Texts(*graph(texts, cache, tf.constant(n_steps), tf.constant(config.seed), samples))
            length = int(texts.length)
            yield [_before_eos(ids, eos_id) for ids in texts.ids[:, first:length].numpy().tolist()]
            if texts.is_ended.numpy().all():
                return
            first = length

    def compile(self, rows: Sequence[Row | None], eos_id: int, config: SamplingConfig) -> None:
        """Compiles what `continued` needs for these rows, if it is not there yet, and makes no token."""
        graph, texts, cache, samples = self._started(rows, eos_id, config)
        texts = texts._replace(n_cached=texts.length - 1)
        graph(texts, cache, tf.constant(0), tf.constant(config.seed), samples)

    def graph_count(self) -> int:
        """Returns how many graphs were made so far."""
        return sum(graph.experimental_get_tracing_count() for graph in self._graphs.values())

    def _started(self, rows: Sequence[Row | None], eos_id: int, config: SamplingConfig) -> _Started:
        """Returns the graph for these rows, and its arguments before the first token."""
        graph = self._graph(Drawing(eos_id, dataclasses.replace(config, max_new_tokens=1, seed=0)))
        lengths = np.array([len(row.ids) if row else 1 for row in rows], np.int32)
        n_tokens = max(int(lengths.max()) + config.max_new_tokens, self.least_tokens)
        n_slots = n_slots_for(n_tokens, self.model.config.seq_len)
        prompts = np.zeros((len(rows), n_slots), np.int32)
        for prompt, row in zip(prompts, rows, strict=True):
            if row:
                prompt[: len(row.ids)] = row.ids
        texts = begin(prompts, lengths, np.array([row is None for row in rows]), n_slots)
        zeros = self.model.empty_cache(len(rows), n_slots)
        cache = tf.nest.map_structure(lambda zero: tf.Variable(zero, trainable=False), zeros)
        return _Started(graph, texts, cache, np.array([row.sample if row else 0 for row in rows], np.int32))

    def _graph(self, drawing: Drawing) -> tf.types.experimental.PolymorphicFunction:
        if drawing not in self._graphs:

            def advance(texts: Texts, cache: Cache, n_steps: Tensor, seed: Tensor, samples: Tensor) -> Texts:
                # The cache is in variables, which XLA updates where they are; a tensor would be copied in each call.
                start = tf.nest.map_structure(tf.convert_to_tensor, cache)
                texts, grown = extend(self.model, texts, start, n_steps, seed, samples, drawing)
                tf.nest.map_structure(lambda variable, value: variable.assign(value), cache, grown)
                return texts

            self._graphs[drawing] = graph_function(advance, self._jit_compile)
        return self._graphs[drawing]


def generate(decoder: CachedDecoder, tokenizer: Tokenizer, prompt: str, config: SamplingConfig) -> str:
    """Returns the text that follows a prompt; it ends before EOS or after `max_new_tokens`.

    Args:
      decoder: of the model.
      tokenizer: the one that the model was trained with.
      prompt: any text, also an empty one.
      config: how tokens are drawn, and how many.

    Raises:
      UserError: the prompt is not Unicode text, or prompt and new tokens do not fit into the model's context.
    """
    ids = prompt_ids(tokenizer, prompt, decoder.model.config.seq_len, config.max_new_tokens)
    return tokenizer.decode(*decoder.continued([Row(ids)], tokenizer.eos_id, config))


def prompt_ids(
    tokenizer: Tokenizer, prompt: str, seq_len: int, n_new_tokens: int, flag: str = "--max_new_tokens"
) -> list[int]:
    """Returns the ids of a prompt, read as the start of a document: EOS stands in front of it, as in training.

    Args:
      tokenizer: the one that the model was trained with.
      prompt: any text, also an empty one.
      seq_len: positions of the model.
      n_new_tokens: how many must fit in behind the prompt.
      flag: with which that number was given, for the error.

    Raises:
      UserError: the prompt is not Unicode text, or too long.
    """
    require_utf8(prompt)
    ids = [tokenizer.eos_id, *tokenizer.encode(prompt)]
    require_room(len(ids), seq_len, n_new_tokens, flag)
    return ids


def require_utf8(prompt: str) -> None:
    """Raises `UserError` for a prompt that cannot be encoded."""
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        # Python reads bytes of a command line that are not UTF-8 as characters that cannot be encoded again.
        raise UserError(f"the prompt must be UTF-8, and its character {error.start} is not: retype it.") from error


def require_room(prompt_tokens: int, seq_len: int, n_new_tokens: int, flag: str = "--max_new_tokens") -> None:
    """Raises `UserError` unless a prompt and the new tokens fit into a model's positions; `flag` gave their number."""
    if seq_len - prompt_tokens < n_new_tokens:
        raise UserError(
            f"the prompt and the new tokens must fit into the model's {seq_len} positions, and the prompt "
            f"takes {prompt_tokens} of them, {flag} {n_new_tokens}: shorten either."
        )


def generate_ids(decoder: CachedDecoder, ids: Sequence[int], eos_id: int, config: SamplingConfig) -> Iterator[int]:
    """Yields up to `max_new_tokens` ids that follow `ids`, and stops before EOS.

    They are made in pieces of `PIECE_TOKENS` when they are asked for, so who has enough of them just stops.

    Args:
      decoder: of the model.
      ids: of the prompt, at least one.
      eos_id: of the tokenizer.
      config: how tokens are drawn, and how many.
    """
    for (piece,) in decoder.pieces([Row(ids)], eos_id, config):
        yield from piece


def _before_eos(ids: list[int], eos_id: int) -> list[int]:
    return ids[: ids.index(eos_id)] if eos_id in ids else ids
