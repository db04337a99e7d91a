"""What decides about an attention score beside query and key: how far apart they stand, and in which documents.

Shapes: B batch, H heads, L queries, S keys.
"""

from typing import NamedTuple

import numpy as np
from keras import ops

from algpt2.model.tensors import Integer, Tensor, TensorLike

_MASKED_SCORE = -1e30


def alibi_slopes(n_head: int) -> np.ndarray:
    """Returns float32 (n_head,), by how much each head's scores fall with each position between query and key.

    For a power of two they are 2^(-8 k / n_head), k from 1. Otherwise they are those of the power of two below, and
    behind them every second one of the power of two above (Press et al. 2021, arXiv:2108.12409, and its code).

    Example:

    >>> from algpt2.model.attention_bias import alibi_slopes
    >>> alibi_slopes(6).tolist()
    [0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]
    """
    below = 1 << (n_head.bit_length() - 1)
    slopes = _geometric(below) + _geometric(2 * below)[0::2][: n_head - below]
    return np.array(slopes, np.float32)


def causal_mask(n_queries: Integer, n_keys: Integer, first_position: Integer) -> Tensor:
    """Returns bool (n_queries, n_keys): query i, at position first_position + i, sees keys 0 to that position."""
    query_position = first_position + ops.arange(n_queries, dtype="int32")[:, None]
    return ops.arange(n_keys, dtype="int32")[None, :] <= query_position


def linear_bias(slopes: np.ndarray, n_queries: Integer, n_keys: Integer, first_position: Integer) -> Tensor:
    """Returns ALiBi's bias, float32 (H, n_queries, n_keys): -slope x (position of the query - position of the key).

    Args:
      slopes: float32 (H,), from `alibi_slopes`.
      n_queries: query i is at position first_position + i.
      n_keys: key j is at position j.
      first_position: that of the first query, counted from the first key.
    """
    query_position = first_position + ops.arange(n_queries, dtype="int32")[:, None]
    distance = ops.arange(n_keys, dtype="int32")[None, :] - query_position
    return slopes[:, None, None] * ops.cast(distance, "float32")


class AttentionBias(NamedTuple):
    """What is done to the scaled scores of causal attention before their softmax.

    Attributes:
      slopes: float32 (H,), those of ALiBi; None where scores do not fall with the distance.
      documents: int32 (B, L), the number of the document that each position is of; a query sees only keys of its own.
        None means that it sees all before it.
    """

    slopes: np.ndarray | None = None
    documents: TensorLike | None = None

    def apply(self, scores: Tensor, first_query: int = 0, first_key: int = 0) -> Tensor:
        """Returns the biased scores, hugely negative where a key lies in the future or in another document.

        Args:
          scores: float32 (B, H, l, s), of some queries and keys that stand side by side.
          first_query: the position of the first of these queries.
          first_key: the position of the first of these keys.
        """
        n_queries, n_keys = ops.shape(scores)[2:]
        visible = causal_mask(n_queries, n_keys, first_query - first_key)
        if self.slopes is not None:
            scores = scores + linear_bias(self.slopes, n_queries, n_keys, first_query - first_key)
        if self.documents is not None:
            documents = ops.convert_to_tensor(self.documents)
            of_query = documents[:, first_query : first_query + n_queries]
            of_key = documents[:, first_key : first_key + n_keys]
            visible = visible & (of_query[:, None, :, None] == of_key[:, None, None, :])
        return hidden_where_not(visible, scores)


CAUSAL = AttentionBias()


def hidden_where_not(visible: Tensor, scores: Tensor) -> Tensor:
    """Returns float32 scores, hugely negative where a key is not visible."""
    return ops.where(visible, scores, ops.cast(_MASKED_SCORE, "float32"))


def _geometric(n_head: int) -> list[float]:
    """Returns the slopes of a number of heads that is a power of two."""
    return [2.0 ** (-8 * k / n_head) for k in range(1, n_head + 1)]
