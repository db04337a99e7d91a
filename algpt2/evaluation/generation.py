"""Text from a prompt, one token at a time, with a key-value cache and fixed shapes: two graphs, no retracing."""

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from algpt2.config.sampling import SamplingConfig
from algpt2.data.tokenizer import Tokenizer
from algpt2.devices.compilation import graph_function
from algpt2.errors import UserError
from algpt2.evaluation.sampling import sample
from algpt2.model.gpt import GPT, Cache


class CachedDecoder:
    """The logits of the next token after a growing sequence, of which each position is computed once.

    It has two graphs, one for prompts and one for further tokens, each compiled at its first use for all texts.

    Example:

    >>> import algpt2
    >>> from algpt2.evaluation.generation import CachedDecoder
    >>> decoder = CachedDecoder(algpt2.GPT.from_preset("algpt2-tiny"))
    >>> decoder.prefill([7, 8, 9]).shape, decoder.extend(10).shape
    ((4096,), (4096,))
    """

    def __init__(self, model: GPT, jit_compile: bool = True):
        """Prepares the graphs; nothing is compiled yet.

        Args:
          model: whose parameters are read anew in each call.
          jit_compile: whether XLA compiles the graphs where it can.
        """
        self.model = model
        self._forward = graph_function(model.call_with_cache, jit_compile)
        self._cache: Cache = ()
        self._length = 0

    def prefill(self, ids: Sequence[int]) -> np.ndarray:
        """Forgets the sequence so far and takes in a prompt; returns the logits after it, float32 (V,).

        Args:
          ids: of the prompt, at least one and at most seq_len.
        """
        padded = np.zeros((1, self.model.config.seq_len), np.int32)
        padded[0, : len(ids)] = ids
        # The padding behind the prompt gets keys too, but the causal mask hides them until they are overwritten.
        logits, self._cache = self._forward(padded, self.model.empty_cache(1), tf.constant(0))
        self._length = len(ids)
        return logits[0, len(ids) - 1].numpy()

    def extend(self, token: int) -> np.ndarray:
        """Takes in the next token; returns the logits after it, float32 (V,)."""
        logits, self._cache = self._forward(np.array([[token]], np.int32), self._cache, tf.constant(self._length))
        self._length += 1
        return logits[0, 0].numpy()

    def graph_count(self) -> int:
        """Returns how many graphs were made of the model so far: two after the first text, and no more after others."""
        return self._forward.experimental_get_tracing_count()


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
    return tokenizer.decode(list(generate_ids(decoder, ids, tokenizer.eos_id, config)))


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
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError as error:
        # Python reads bytes of a command line that are not UTF-8 as characters that cannot be encoded again.
        raise UserError(f"the prompt must be UTF-8, and its character {error.start} is not: retype it.") from error
    ids = [tokenizer.eos_id, *tokenizer.encode(prompt)]
    if seq_len - len(ids) < n_new_tokens:
        raise UserError(
            f"the prompt and the new tokens must fit into the model's {seq_len} positions, and the prompt "
            f"takes {len(ids)} of them, {flag} {n_new_tokens}: shorten either."
        )
    return ids


def generate_ids(decoder: CachedDecoder, ids: Sequence[int], eos_id: int, config: SamplingConfig) -> Iterator[int]:
    """Yields up to `max_new_tokens` ids that follow `ids`, and stops before EOS.

    EOS is the last id of every tokenizer. A model's token table may have more rows than that; they are never drawn.

    Args:
      decoder: of the model.
      ids: of the prompt, at least one.
      eos_id: of the tokenizer.
      config: how tokens are drawn, and how many.
    """
    rng = np.random.default_rng(config.seed)
    logits = decoder.prefill(ids)
    for remaining in range(config.max_new_tokens, 0, -1):
        token = sample(logits[: eos_id + 1], config, rng)
        if token == eos_id:
            return
        yield token
        if remaining > 1:
            logits = decoder.extend(token)
