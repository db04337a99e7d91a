"""Causal attention that neither computes nor keeps what it does not need.

Queries are taken in blocks, each of which sees only the keys up to its own end, so that most of the masked half is
never computed. The gradient is our own, as in FlashAttention (arXiv:2205.14135, appendix B): it keeps the output and
one number per query, the logarithm of the softmax's denominator, and computes the attention weights anew.

Shapes: B batch, H heads, L queries, S keys, K head size.
"""

from typing import Any

from keras import ops

from algpt2.dropout import dropout

QUERY_BLOCK = 256
_MASKED = -1e30


def causal_mask(n_queries: int, n_keys: int, first_position: Any) -> Any:
    """Returns bool (n_queries, n_keys): query i, at position first_position + i, sees keys 0 to that position."""
    query_position = first_position + ops.arange(n_queries, dtype="int32")[:, None]
    return ops.arange(n_keys, dtype="int32")[None, :] <= query_position


def masked_scores(query: Any, key: Any, first_position: Any, zero: Any = 0) -> Any:
    """(B, H, L, K), (B, H, S, K) -> float32 (B, H, L, S), scaled, and hugely negative where a key lies in the future.

    `first_position` is that of query[:, :, 0]. `zero` is added to the scale.
    """
    query = query * (ops.cast(query.shape[-1] ** -0.5, query.dtype) + ops.cast(zero, query.dtype))
    scores = ops.cast(ops.matmul(query, _transposed(key)), "float32")
    mask = causal_mask(query.shape[2], key.shape[2], first_position)
    return ops.where(mask, scores, ops.cast(_MASKED, "float32"))


def causal_attention(query: Any, key: Any, value: Any, rate: float = 0.0, seed: Any = None, site: int = 0) -> Any:
    """Returns softmax(query key^T / sqrt(K)) value over the keys up to each query's position; softmax in float32.

    Args:
      query: (B, H, L, K), as `key` and `value`; L is known when the graph is made.
      key: position by position, as `query`.
      value: as `key`.
      rate: dropout of the attention weights.
      seed: of the dropout, int32 (2,), or None for none.
      site: of the dropout (see `dropout`); each block of queries is a part of it.
    """

    def attend(query: Any, key: Any, value: Any) -> tuple[Any, Any]:
        blocks = [(i, start) for i, start in enumerate(range(0, query.shape[2], QUERY_BLOCK))]

        def block_of(start: int, *tensors: Any) -> list[Any]:
            return [tensor[:, :, start : start + QUERY_BLOCK] for tensor in tensors]

        def seen_from(start: int, *tensors: Any) -> list[Any]:
            return [tensor[:, :, : start + QUERY_BLOCK] for tensor in tensors]

        def drop(weights: Any, block: int) -> Any:
            return dropout(weights, rate, seed, site, part=block)

        parts = [
            _attend(*block_of(start, query), *seen_from(start, key, value), start, lambda w, i=i: drop(w, i))
            for i, start in blocks
        ]
        output, log_sums = (ops.concatenate(part, axis=2) for part in zip(*parts, strict=True))

        def gradient(*upstream: Any, **_: Any) -> tuple[Any, Any, Any]:
            (d_output,) = upstream
            # Through this the scores depend on d_output: else XLA would see that they are those of the forward pass, and
            # keep those instead.
            zero = 0 * d_output[0, 0, 0, 0]
            parts = [
                _attend_gradient(
                    *block_of(start, query),
                    *seen_from(start, key, value),
                    *block_of(start, output, log_sums, d_output),
                    start,
                    zero,
                    lambda w, i=i: drop(w, i),
                )
                for i, start in blocks
            ]
            d_query, d_key, d_value = zip(*parts, strict=True)
            return ops.concatenate(d_query, axis=2), _sum_of_prefixes(d_key), _sum_of_prefixes(d_value)

        return output, gradient

    return ops.custom_gradient(attend)(query, key, value)


def _attend(query: Any, key: Any, value: Any, first_position: int, drop: Any) -> tuple[Any, Any]:
    """Returns the output (B, H, L, K) and the logarithm of the softmax's denominator, float32 (B, H, L, 1)."""
    scores = masked_scores(query, key, first_position)
    largest = ops.max(scores, axis=-1, keepdims=True)
    weights = ops.exp(scores - largest)
    total = ops.sum(weights, axis=-1, keepdims=True)
    output = ops.matmul(drop(ops.cast(weights, value.dtype)), value)
    return ops.cast(ops.cast(output, "float32") / total, value.dtype), largest + ops.log(total)


def _attend_gradient(
    query: Any,
    key: Any,
    value: Any,
    output: Any,
    log_sum: Any,
    d_output: Any,
    first_position: int,
    zero: Any,
    drop: Any,
) -> tuple[Any, Any, Any]:
    """Returns the gradients with respect to query, key and value, in their shapes."""
    weights = ops.exp(masked_scores(query, key, first_position, zero) - log_sum)
    d_value = ops.matmul(_transposed(drop(ops.cast(weights, value.dtype))), d_output)
    d_weights = ops.cast(drop(ops.matmul(d_output, _transposed(value))), "float32")
    # What the softmax's denominator contributes: sum over keys of weight x gradient, dropout included.
    shared = ops.sum(ops.cast(output, "float32") * ops.cast(d_output, "float32"), axis=-1, keepdims=True)
    d_scores = ops.cast(weights * (d_weights - shared) * query.shape[-1] ** -0.5, query.dtype)
    return ops.matmul(d_scores, key), ops.matmul(_transposed(d_scores), query), d_value


def _sum_of_prefixes(parts: Any) -> Any:
    """Sums (B, H, S_i, K) of growing S_i, each one about the first S_i of the S positions that the last one covers."""
    n_keys = parts[-1].shape[2]
    return sum(ops.pad(part, ((0, 0), (0, 0), (0, n_keys - part.shape[2]), (0, 0))) for part in parts)


def _transposed(x: Any) -> Any:
    """(B, H, L, K) -> (B, H, K, L)."""
    return ops.transpose(x, (0, 1, 3, 2))
