"""Causal attention that neither computes nor keeps what it does not need.

The forward pass takes queries in blocks, each of which sees only the keys up to its own end, so that most of the
masked half is never computed. The backward pass takes keys in blocks, each seen by the queries from its start on. It is
written out here, as in FlashAttention (arXiv:2205.14135, appendix B): the forward pass keeps its output and one number
per query, the logarithm of the softmax's denominator, and the backward pass computes the attention weights anew.

Shapes: B batch, H heads, L queries, S keys, K head size.
"""

from typing import NamedTuple

from keras import ops

from algpt2.model.dropout import NO_DROPOUT, Dropout, Mask
from algpt2.model.ordering import computed_after
from algpt2.model.tensors import Integer, Tensor

BLOCK_LENGTH = 256
_MASKED_SCORE = -1e30


def causal_mask(n_queries: Integer, n_keys: Integer, first_position: Integer) -> Tensor:
    """Returns bool (n_queries, n_keys): query i, at position first_position + i, sees keys 0 to that position."""
    query_position = first_position + ops.arange(n_queries, dtype="int32")[:, None]
    return ops.arange(n_keys, dtype="int32")[None, :] <= query_position


def masked_scores(query: Tensor, key: Tensor, first_position: Integer) -> Tensor:
    """Returns query key^T / sqrt(K), float32 (B, H, L, S), and hugely negative where a key lies in the future.

    Args:
      query: (B, H, L, K), any floating dtype.
      key: (B, H, S, K), of the same dtype.
      first_position: the position of query[:, :, 0], counted from key[:, :, 0].
    """
    query = query * ops.cast(query.shape[-1] ** -0.5, query.dtype)
    scores = ops.cast(ops.matmul(query, _transposed(key)), "float32")
    mask = causal_mask(ops.shape(query)[2], ops.shape(key)[2], first_position)
    return ops.where(mask, scores, ops.cast(_MASKED_SCORE, "float32"))


def causal_attention(query: Tensor, key: Tensor, value: Tensor, dropout: Dropout = NO_DROPOUT) -> Tensor:
    """Returns softmax(query key^T / sqrt(K)) value over the keys up to each query's position; softmax in float32.

    Args:
      query: (B, H, L, K), any floating dtype. If L is not known when the graph is made, all scores are there at once.
      key: of the same shape and dtype.
      value: of the same shape and dtype.
      dropout: of the attention weights; it needs an L that is known.

    Returns:
      (B, H, L, K) in the dtype of `value`.
    """
    if query.shape[2] is None:
        weights = ops.softmax(masked_scores(query, key, 0), axis=-1)
        return ops.matmul(ops.cast(weights, value.dtype), value)
    starts = range(0, query.shape[2], BLOCK_LENGTH)
    mask = dropout.mask((*ops.shape(query)[:3], key.shape[2]))

    def attend(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, object]:
        blocks = []
        for start in starts:
            end = start + BLOCK_LENGTH
            blocks.append(_attend(query[:, :, start:end], key[:, :, :end], value[:, :, :end], start, mask))
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
                blocks.append(_attend_gradient(*of_block, start, mask))
            d_query, d_key, d_value = zip(*blocks, strict=True)
            return _sum_of_suffixes(d_query), ops.concatenate(d_key, axis=2), ops.concatenate(d_value, axis=2)

        return output, gradient

    return ops.custom_gradient(attend)(query, key, value)


def cached_attention(query: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> Tensor:
    """Returns softmax(query key^T / sqrt(K)) value over the keys that are visible; softmax in float32, no dropout.

    Batch and heads are one axis, so that a cache is multiplied as it lies in memory: XLA copies the cache of every
    layer at every token where it has to reshape what was just written.

    Args:
      query: (B x H, L, K), any floating dtype.
      key: (B x H, S, K), of the same dtype.
      value: of the shape and dtype of `key`.
      visible: bool (B, L, S), whether each query sees each key.

    Returns:
      (B x H, L, K) in the dtype of `value`.
    """
    query = query * ops.cast(query.shape[-1] ** -0.5, query.dtype)
    scores = ops.cast(ops.matmul(query, ops.transpose(key, (0, 2, 1))), "float32")
    n_queries, n_keys = scores.shape[1:]
    by_head = ops.reshape(scores, (-1, ops.shape(scores)[0] // ops.shape(visible)[0], n_queries, n_keys))
    by_head = ops.where(visible[:, None], by_head, ops.cast(_MASKED_SCORE, "float32"))
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


def _attend(query: Tensor, key: Tensor, value: Tensor, first_position: int, mask: Mask) -> tuple[Tensor, Tensor]:
    """Returns the output of a block of queries and the logarithms of their softmax's denominators, (B, H, L, 1)."""
    scores = masked_scores(query, key, first_position)
    largest = ops.max(scores, axis=-1, keepdims=True)
    weights = ops.exp(scores - largest)
    total = ops.sum(weights, axis=-1, keepdims=True)
    output = ops.matmul(mask.apply(ops.cast(weights, value.dtype), (first_position, 0)), value)
    return ops.cast(ops.cast(output, "float32") / total, value.dtype), largest + ops.log(total)


def _attend_gradient(
    queries: _QueriesBackward, key: Tensor, value: Tensor, start: int, mask: Mask
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns what a block of keys adds to the queries' gradient, and the gradients of its keys and values.

    `start` is the position of the block's first key; `queries` are all those from there on.
    """
    query, log_denominator, mean_d_weight, d_output = queries
    weights = ops.exp(masked_scores(query, key, 0) - log_denominator)
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
    """(B, H, L, K) -> (B, H, K, L)."""
    return ops.transpose(x, (0, 1, 3, 2))
