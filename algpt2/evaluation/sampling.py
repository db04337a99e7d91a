"""Drawing the next token from its logits, inside a graph: filters in float32, and draws that are a pure function.

Shapes: B rows, V vocabulary. A filter gives the logits of tokens that it takes out as -inf. Tokens that are equally
likely stay or go together.
"""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from keras import ops

from algpt2.config.sampling import SamplingConfig
from algpt2.model.hashing import hashed
from algpt2.model.tensors import Integer, Tensor, TensorLike

_INT32 = np.iinfo(np.int32)
_SECOND_WORD = np.uint32(0x9E3779B9)


class Draws(NamedTuple):
    """Which draws these are: a draw is a pure function of the three, whatever else is in the batch.

    Attributes:
      seed: int32 (), of all texts.
      samples: int32 (B,), tells apart the texts of one prompt.
      numbers: int32 (B,), how many tokens each text has already.
    """

    seed: TensorLike
    samples: TensorLike
    numbers: TensorLike


class GivenSampling(NamedTuple):
    """What a `SamplingConfig` says, in a graph that is told while it runs. What has a default here is off.

    Attributes:
      temperature: float32 (), above 0.
      top_k: int32 (), at least 1.
      top_p: float32 (), above 0.
    """

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: float = 0.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0

    @classmethod
    def of(cls, temperature: Tensor, top_k: Tensor, top_p: Tensor) -> "GivenSampling":
        """Returns what is given with the meaning that the fields of `SamplingConfig` have.

        Args:
          temperature: float32 (); 0 always takes the likeliest token.
          top_k: int32 (); 0 is off.
          top_p: float32 (); 1 is off.
        """
        is_greedy = temperature == 0
        at_most = ops.where(top_k == 0, _INT32.max, top_k)
        # No tokens together have probability 2, so that all of them stay, whatever their sum is rounded to.
        return cls(
            ops.where(is_greedy, 1.0, temperature),
            ops.where(is_greedy, 1, at_most),
            ops.where(top_p >= 1, 2.0, top_p),
        )


Sampling = SamplingConfig | GivenSampling


def next_tokens(logits: Tensor, seen: Tensor | None, draws: Draws, config: Sampling) -> Tensor:
    """Returns the next token of each row, int32 (B,).

    Args:
      logits: float32 (B, V), -inf where a token must not come.
      seen: bool (B, V), which tokens each text has; None if there is no repetition penalty.
      draws: which these are.
      config: temperature and filters.
    """
    if seen is not None:
        logits = penalised(logits, seen, config.repetition_penalty)
    if _is_known_as(0, config.temperature):
        return ops.argmax(logits, axis=-1)
    # The largest of logits + Gumbel noise is a draw from their softmax: https://arxiv.org/abs/1411.0030, section 2.
    return ops.argmax(filtered(logits, config) + gumbel_noise(draws, logits.shape[-1]), axis=-1)


def penalised(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Returns logits (B, V), those of seen tokens divided by the penalty, or times it if they are negative.

    It is the penalty of Keskar et al. 2019 (arXiv:1909.05858, section 4.1) as Hugging Face's library corrected it.
    """
    return ops.where(seen, ops.where(logits < 0, logits * penalty, logits / penalty), logits)


def filtered(logits: Tensor, config: Sampling) -> Tensor:
    """Returns logits (B, V) after the temperature, which must not be 0, and each filter that is on."""
    logits = logits / config.temperature
    if not _is_known_as(0, config.top_k):
        logits = _top_k(logits, config.top_k)
    if not _is_known_as(1, config.top_p):
        logits = _top_p(logits, config.top_p)
    if config.min_p:
        logits = _min_p(logits, config.min_p)
    if config.typical_p < 1:
        logits = _typical(logits, config.typical_p)
    return logits


def gumbel_noise(draws: Draws, vocab_size: int) -> Tensor:
    """Returns Gumbel noise, float32 (B, V): hashes of the draw and the token. It never exceeds 17."""
    seed, samples, numbers = (ops.cast(word, "uint32") for word in draws)
    first = hashed(hashed(hashed(seed) ^ samples) + numbers)[:, None]
    tokens = ops.cast(ops.arange(vocab_size, dtype="int32"), "uint32")
    bits = hashed(hashed(tokens + first) ^ hashed(first ^ _SECOND_WORD))
    uniform = (ops.cast(ops.cast(ops.right_shift(bits, np.uint32(9)), "int32"), "float32") + 0.5) * 2.0**-23
    return -ops.log(-ops.log(uniform))


def _is_known_as(off: int, value: float | Tensor) -> bool:
    """Returns whether a value is `off` when the graph is made."""
    return isinstance(value, int | float) and value == off


def _top_k(logits: Tensor, k: Integer) -> Tensor:
    """The k likeliest tokens, and those that are as likely as the last of them."""
    return _kept(logits, logits, ops.ones_like(logits), ops.cast(k, "float32"))


def _top_p(logits: Tensor, p: float | Tensor) -> Tensor:
    """The fewest likeliest tokens that together have probability p (Holtzman et al. 2020, arXiv:1904.09751)."""
    return _kept(logits, logits, ops.softmax(logits, axis=-1), p)


def _min_p(logits: Tensor, min_p: float) -> Tensor:
    """Tokens at least min_p times as likely as the likeliest (Nguyen et al. 2024, arXiv:2407.01082)."""
    least = ops.max(logits, axis=-1, keepdims=True) + math.log(min_p)
    return ops.where(logits >= least, logits, -math.inf)


def _typical(logits: Tensor, p: float) -> Tensor:
    """The fewest tokens whose information is nearest to the entropy and that together have probability p.

    Meister et al. 2023, "Locally typical sampling", arXiv:2202.00666.
    """
    log_probabilities = ops.log_softmax(logits, axis=-1)
    probabilities = ops.exp(log_probabilities)
    information = ops.where(probabilities > 0, -log_probabilities, 0)
    entropy = ops.sum(probabilities * information, axis=-1, keepdims=True)
    return _kept(logits, -ops.abs(-log_probabilities - entropy), probabilities, p)


def _kept(logits: Tensor, keys: Tensor, weights: Tensor, total: float | Tensor) -> Tensor:
    """Returns the logits of the tokens with the largest keys, as few as together have a total weight, else -inf.

    The least of those keys is found by bisection of all float32 numbers, in their order as integers: a sort of a whole
    vocabulary would take longer than the model.

    Args:
      logits: float32 (B, V).
      keys: float32 (B, V), by which tokens are ranked.
      weights: float32 (B, V), at least 0.
      total: above 0. If all weights are less, all tokens are kept.
    """
    bits = tf.bitcast(keys, tf.int32)
    ranks = bits ^ (ops.right_shift(bits, 31) & _INT32.max)

    def halve(_: Tensor, bounds: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        enough, too_high = bounds
        middle = (enough & too_high) + ops.right_shift(enough ^ too_high, 1)
        is_enough = ops.sum(ops.where(ranks >= middle, weights, 0.0), axis=-1, keepdims=True) >= total
        return ops.where(is_enough, middle, enough), ops.where(is_enough, too_high, middle)

    bound = ops.zeros_like(ranks[:, :1])
    least, _ = ops.fori_loop(0, 32, halve, (bound + _INT32.min, bound + _INT32.max))
    return ops.where(ranks >= least, logits, -math.inf)
