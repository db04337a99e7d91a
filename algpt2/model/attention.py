"""Causal attention that neither computes nor keeps what it does not need.

Queries are taken in blocks, each of which sees only the keys up to its own end, so that most of the masked half is
never computed; the gradient takes keys in blocks, each seen by the queries from its start on. The gradient is our own,
as in FlashAttention (arXiv:2205.14135, appendix B): it keeps the output and one number per query, the logarithm of the
softmax's denominator, and computes the attention weights anew.

Shapes: B batch, H heads, L queries, S keys, K head size.
"""

from typing import Any

from keras import ops

from algpt2.model.dropout import dropout_of
from algpt2.model.ordering import computed_after

BLOCK = 256
_MASKED = -1e30


def causal_mask(n_queries: int, n_keys: int, first_position: Any) -> Any:
    """Returns bool (n_queries, n_keys): query i, at position first_position + i, sees keys 0 to that position."""
    query_position = first_position + ops.arange(n_queries, dtype="int32")[:, None]
    return ops.arange(n_keys, dtype="int32")[None, :] <= query_position


def masked_scores(query: Any, key: Any, first_position: Any) -> Any:
    """(B, H, L, K), (B, H, S, K) -> float32 (B, H, L, S), scaled, and hugely negative where a key lies in the future.

    `first_position` is that of query[:, :, 0], counted from key[:, :, 0].
    """
    query = query * ops.cast(query.shape[-1] ** -0.5, query.dtype)
    scores = ops.cast(ops.matmul(query, _transposed(key)), "float32")
    mask = causal_mask(query.shape[2], key.shape[2], first_position)
    return ops.where(mask, scores, ops.cast(_MASKED, "float32"))


def causal_attention(query: Any, key: Any, value: Any, rate: float = 0.0, seed: Any = None, site: Any = 0) -> Any:
    """Returns softmax(query key^T / sqrt(K)) value over the keys up to each query's position; softmax in float32.

    Args:
      query: (B, H, L, K), as `key` and `value`; L is known when the graph is made.
      key: position by position, as `query`.
      value: as `key`.
      rate: dropout of the attention weights.
      seed: of the dropout, int32 (2,), or None for none.
      site: of the dropout (see `dropout`).
    """
    starts = range(0, query.shape[2], BLOCK)
    drop = dropout_of(rate, seed, site, (*ops.shape(query)[:3], key.shape[2]))

    def attend(query: Any, key: Any, value: Any) -> tuple[Any, Any]:
        rows = []
        for start in starts:
            end = start + BLOCK
            rows.append(_attend(query[:, :, start:end], key[:, :, :end], value[:, :, :end], start, drop))
        output, log_sums = (ops.concatenate(parts, axis=2) for parts in zip(*rows, strict=True))

        def gradient(*upstream: Any, **_: Any) -> tuple[Any, Any, Any]:
            (d_output,) = upstream
            # What the softmax's denominator contributes: the sum over keys of weight x gradient, dropout included.
            shared = ops.sum(ops.cast(output, "float32") * ops.cast(d_output, "float32"), axis=-1, keepdims=True)
            # Else XLA computes the scores, or keeps those of the forward pass, as soon as there are queries and keys.
            query_again = computed_after(query, d_output)
            columns = []
            for start in starts:
                of_queries = (tensor[:, :, start:] for tensor in (query_again, log_sums, shared, d_output))
                of_keys = (tensor[:, :, start : start + BLOCK] for tensor in (key, value))
                columns.append(_attend_gradient(*of_queries, *of_keys, start, drop))
            d_query, d_key, d_value = zip(*columns, strict=True)
            return _sum_of_suffixes(d_query), ops.concatenate(d_key, axis=2), ops.concatenate(d_value, axis=2)

        return output, gradient

    return ops.custom_gradient(attend)(query, key, value)


def _attend(query: Any, key: Any, value: Any, first_query: int, drop: Any) -> tuple[Any, Any]:
    """Returns a row's output (B, H, L, K) and the logarithm of its softmax's denominator, float32 (B, H, L, 1)."""
    scores = masked_scores(query, key, first_query)
    largest = ops.max(scores, axis=-1, keepdims=True)
    weights = ops.exp(scores - largest)
    total = ops.sum(weights, axis=-1, keepdims=True)
    output = ops.matmul(drop(ops.cast(weights, value.dtype), (first_query, 0)), value)
    return ops.cast(ops.cast(output, "float32") / total, value.dtype), largest + ops.log(total)


def _attend_gradient(
    query: Any, log_sum: Any, shared: Any, d_output: Any, key: Any, value: Any, start: int, drop: Any
) -> tuple[Any, Any, Any]:
    """Returns what a column, all queries from its first key on, adds to the gradients of query, key and value."""
    weights = ops.exp(masked_scores(query, key, 0) - log_sum)
    d_value = ops.matmul(_transposed(drop(ops.cast(weights, value.dtype), (start, start))), d_output)
    d_weights = ops.cast(drop(ops.matmul(d_output, _transposed(value)), (start, start)), "float32")
    d_scores = ops.cast(weights * (d_weights - shared) * query.shape[-1] ** -0.5, query.dtype)
    return ops.matmul(d_scores, key), ops.matmul(_transposed(d_scores), query), d_value


def _sum_of_suffixes(parts: Any) -> Any:
    """Sums (B, H, L_i, K) of shrinking L_i, each one about the last L_i of the positions that the first one covers."""
    length = parts[0].shape[2]
    return sum(ops.pad(part, ((0, 0), (0, 0), (length - part.shape[2], 0), (0, 0))) for part in parts)


def _transposed(x: Any) -> Any:
    """(B, H, L, K) -> (B, H, K, L)."""
    return ops.transpose(x, (0, 1, 3, 2))
