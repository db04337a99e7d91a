"""Text from a prompt, one token at a time, with a key-value cache and fixed shapes: two graphs, no retracing."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from algpt2.config.sampling import SamplingConfig
from algpt2.data.tokenizer import Tokenizer
from algpt2.devices.compilation import graph_function
from algpt2.errors import UserError
from algpt2.evaluation.sampling import sample
from algpt2.model.gpt import GPT


class CachedDecoder:
    """The logits of the next token after a growing sequence, each position computed once."""

    def __init__(self, model: GPT, jit_compile: bool = True):
        """Its two graphs are compiled at their first use, once, for all texts that it continues."""
        self.model = model
        self._forward = graph_function(self._cached_forward, jit_compile)
        self._cache: Any = None
        self._length = 0

    def prefill(self, ids: Sequence[int]) -> np.ndarray:
        """Takes in a whole prompt; returns the logits after it, float32 (V,)."""
        padded = np.zeros((1, self.model.config.seq_len), np.int32)
        padded[0, : len(ids)] = ids
        # Positions past the prompt get keys too, but the mask hides them until they are overwritten.
        logits, self._cache = self._forward(padded, self.model.empty_cache(1), tf.constant(0))
        self._length = len(ids)
        return logits[0, len(ids) - 1].numpy()

    def extend(self, token: int) -> np.ndarray:
        """Takes in one more token; returns the logits after it, float32 (V,)."""
        logits, self._cache = self._forward(np.array([[token]], np.int32), self._cache, tf.constant(self._length))
        self._length += 1
        return logits[0, 0].numpy()

    def _cached_forward(self, ids: tf.Tensor, cache: Any, position: tf.Tensor) -> tuple[tf.Tensor, Any]:
        return self.model.call_with_cache(ids, cache, position)


def generate(decoder: CachedDecoder, tokenizer: Tokenizer, prompt: str, config: SamplingConfig) -> str:
    """Returns the text that follows a prompt; it ends before EOS or after `max_new_tokens`.

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
      seq_len: positions of the model.
      n_new_tokens: how many must fit in behind the prompt; `flag` says so.

    Raises:
      UserError: the prompt is not Unicode text, or too long.
    """
    try:
        prompt.encode("utf-8")
    except UnicodeEncodeError as error:  # how Python shows bytes of a command line that are not UTF-8
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

    EOS is the last id of every tokenizer. A model may have more rows than that; they are never drawn.
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
