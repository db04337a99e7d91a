"""Causal attention that neither computes nor keeps what it does not need.

The forward pass takes queries in blocks, each of which sees only the keys up to its own end, so that most of the
masked half is never computed. The backward pass takes keys in blocks, each seen by the queries from its start on. It is
written out here, as in FlashAttention (arXiv:2205.14135, appendix B): the forward pass keeps its output and one number
per query, the logarithm of the softmax's denominator, and the backward pass computes the attention weights anew.

Shapes: B batch, H heads, L queries, S keys, K head size.
"""

from typing import NamedTuple

from keras import ops

from algpt2.model.attention_bias import CAUSAL, AttentionBias, hidden_where_not
from algpt2.model.dropout import NO_DROPOUT, Dropout, Mask
from algpt2.model.ordering import computed_after
from algpt2.model.tensors import Tensor

BLOCK_LENGTH = 256


def scaled_scores(query: Tensor, key: Tensor) -> Tensor:
    """Returns query key^T / sqrt(K), float32 (..., L, S).

    Args:
      query: (..., L, K), any floating dtype.
      key: (..., S, K), of the same dtype.
    """
    query = query * ops.cast(query.shape[-1] ** -0.5, query.dtype)
    return ops.cast(ops.matmul(query, _transposed(key)), "float32")


def causal_attention(
    query: Tensor, key: Tensor, value: Tensor, dropout: Dropout = NO_DROPOUT, bias: AttentionBias = CAUSAL
) -> Tensor:
    """Returns softmax(query key^T / sqrt(K)) value over the keys up to each query's position; softmax in float32.

    Args:
      query: (B, H, L, K), any floating dtype. If L is not known when the graph is made, all scores are there at once.
      key: of the same shape and dtype.
      value: of the same shape and dtype.
      dropout: of the attention weights; it needs an L that is known.
      bias: what the scores get before the softmax, and which keys are not seen besides those of the future.

    Returns:
      (B, H, L, K) in the dtype of `value`.
    """
    if query.shape[2] is None:
        weights = ops.softmax(bias.apply(scaled_scores(query, key)), axis=-1)
        return ops.matmul(ops.cast(weights, value.dtype), value)
    starts = range(0, query.shape[2], BLOCK_LENGTH)
    mask = dropout.mask((*ops.shape(query)[:3], key.shape[2]))

    def attend(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, object]:
        blocks = []
        for start in starts:
            end = start + BLOCK_LENGTH
            of_block = query[:, :, start:end], key[:, :, :end], value[:, :, :end]
            blocks.append(_attend(*of_block, start, mask, bias))
        output, log_denominators = (ops.concatenate(parts, axis=2) for parts in zip(*blocks, strict=True))

        def gradient(*upstream: Tensor, **_: object) -> tuple[Tensor, Tensor, Tensor]:
            (d_output,) = upstream
            mean_d_weight = _row_sums(output, d_output)
            # Without this order XLA recognises the scores of the forward pass and keeps them, or computes them as soon
            # as queries and keys are there. Either way they would take memory until they are used.
            query_again = computed_after(query, d_output)
            queries = _QueriesBackward(query_again, log_denominators, mean_d_weight, d_output)
            blocks = []
            for start in starts:
                end = start + BLOCK_LENGTH
                of_block = queries.from_position(start), key[:, :, start:end], value[:, :, start:end]
                blocks.append(_attend_gradient(*of_block, start, mask, bias))
            d_query, d_key, d_value = zip(*blocks, strict=True)
            return _sum_of_suffixes(d_query), ops.concatenate(d_key, axis=2), ops.concatenate(d_value, axis=2)

        return output, gradient

    return ops.custom_gradient(attend)(query, key, value)


def cached_attention(query: Tensor, key: Tensor, value: Tensor, visible: Tensor, bias: Tensor | None = None) -> Tensor:
    """Returns softmax(query key^T / sqrt(K) + bias) value over the visible keys; softmax in float32, no dropout.

    Batch and heads are one axis, so that a cache is multiplied as it lies in memory: XLA copies the cache of every
    layer at every token where it has to reshape what was just written.

    Args:
      query: (B x H, L, K), any floating dtype.
      key: (B x H, S, K), of the same dtype.
      value: of the shape and dtype of `key`.
      visible: bool (B, L, S), whether each query sees each key.
      bias: float32 (H, L, S), added to the scaled scores; None adds nothing.

    Returns:
      (B x H, L, K) in the dtype of `value`.
    """
    scores = scaled_scores(query, key)
    n_queries, n_keys = scores.shape[1:]
    by_head = ops.reshape(scores, (-1, ops.shape(scores)[0] // ops.shape(visible)[0], n_queries, n_keys))
    by_head = hidden_where_not(visible[:, None], by_head if bias is None else by_head + bias)
    weights = ops.cast(ops.softmax(ops.reshape(by_head, (-1, n_queries, n_keys)), axis=-1), value.dtype)
    return ops.matmul(weights, value)


class _QueriesBackward(NamedTuple):
    """What the backward pass needs of each query.

    Attributes:
      query: (B, H, L, K).
      log_denominator: float32 (B, H, L, 1), the logarithm of the softmax's denominator.
      mean_d_weight: float32 (B, H, L, 1), the mean of the gradients with respect to the query's attention weights, each
        weighted by that weight. The softmax's gradient subtracts it, because the weights of a query always sum to 1.
      d_output: (B, H, L, K), the gradient with respect to the output.
    """

    query: Tensor
    log_denominator: Tensor
    mean_d_weight: Tensor
    d_output: Tensor

    def from_position(self, start: int) -> "_QueriesBackward":
        """Returns the queries from a position on."""
        return _QueriesBackward(*(tensor[:, :, start:] for tensor in self))


def _attend(
    query: Tensor, key: Tensor, value: Tensor, first_position: int, mask: Mask, bias: AttentionBias
) -> tuple[Tensor, Tensor]:
    """Returns the output of a block of queries and the logarithms of their softmax's denominators, (B, H, L, 1)."""
    scores = bias.apply(scaled_scores(query, key), first_query=first_position)
    largest = ops.max(scores, axis=-1, keepdims=True)
    weights = ops.exp(scores - largest)
    total = ops.sum(weights, axis=-1, keepdims=True)
    output = ops.matmul(mask.apply(ops.cast(weights, value.dtype), (first_position, 0)), value)
    return ops.cast(ops.cast(output, "float32") / total, value.dtype), largest + ops.log(total)


def _attend_gradient(
    queries: _QueriesBackward, key: Tensor, value: Tensor, start: int, mask: Mask, bias: AttentionBias
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns what a block of keys adds to the queries' gradient, and the gradients of its keys and values.

    `start` is the position of the block's first key; `queries` are all those from there on.
    """
    query, log_denominator, mean_d_weight, d_output = queries
    weights = ops.exp(bias.apply(scaled_scores(query, key), start, start) - log_denominator)
    d_value = ops.matmul(_transposed(mask.apply(ops.cast(weights, value.dtype), (start, start))), d_output)
    d_weights = ops.cast(mask.apply(ops.matmul(d_output, _transposed(value)), (start, start)), "float32")
    d_scores = ops.cast(weights * (d_weights - mean_d_weight) * query.shape[-1] ** -0.5, query.dtype)
    return ops.matmul(d_scores, key), ops.matmul(_transposed(d_scores), query), d_value


def _row_sums(output: Tensor, d_output: Tensor) -> Tensor:
    """Returns the sums of output x d_output over K, float32 (B, H, L, 1): each query's `mean_d_weight`.

    The output is the weighted sum of values, and a weight's gradient is d_output x value, so both sums are the same,
    also under dropout (FlashAttention, appendix B).
    """
    return ops.sum(ops.cast(output, "float32") * ops.cast(d_output, "float32"), axis=-1, keepdims=True)


def _sum_of_suffixes(parts: tuple[Tensor, ...]) -> Tensor:
    """Returns the sum (B, H, L, K) of parts (B, H, L_i, K), the i-th of which covers only the last L_i positions."""
    length = parts[0].shape[2]
    return sum(ops.pad(part, ((0, 0), (0, 0), (length - part.shape[2], 0), (0, 0))) for part in parts)


def _transposed(x: Tensor) -> Tensor:
    """(..., L, K) -> (..., K, L)."""
    return ops.swapaxes(x, -1, -2)
