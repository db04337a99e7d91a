"""Next-token cross-entropy in float32. The shift into inputs and targets is here and nowhere else."""

from typing import Any

from keras import ops

from algpt2.model.ordering import computed_after
from algpt2.model.sizes import chunk_tokens


def inputs_and_targets(records: Any) -> tuple[Any, Any]:
    """int32 (..., L + 1) -> inputs (..., L) and targets (..., L): each target is the token after its input."""
    return records[..., :-1], records[..., 1:]


def token_nats(logits: Any, targets: Any) -> Any:
    """Returns the negative log-likelihood of each target: float32 (B, L), in nats.

    Args:
      logits: (B, L, V), any floating dtype.
      targets: int (B, L), each in [0, V).
    """
    logits = ops.cast(logits, "float32")
    target_logits = ops.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return ops.logsumexp(logits, axis=-1) - target_logits


def head_logits(hidden: Any, table: Any) -> Any:
    """Returns the logits of a tied head, float32 (..., V).

    Args:
      hidden: (..., E), any floating dtype.
      table: float32 (V, E).
    """
    # A float32 product of bfloat16 values: on TPU it runs at bfloat16 speed and keeps the float32 sum.
    return ops.matmul(ops.cast(hidden, "float32"), ops.transpose(ops.convert_to_tensor(table)))


def head_nats(hidden: Any, table: Any, targets: Any) -> Any:
    """Returns the negative log-likelihood of each target, float32 (B, L), chunk by chunk; it has no fast gradient.

    Args:
      hidden: (B, L, E), any floating dtype; B and L are known when the graph is made.
      table: float32 (V, E), the tied head.
      targets: int (B, L), each in [0, V).
    """
    chunks = _chunks(hidden, targets)
    nats = [token_nats(head_logits(some_hidden, table), some_targets) for some_hidden, some_targets in chunks]
    return ops.reshape(ops.concatenate(nats), targets.shape)


def mean_head_nats(hidden: Any, table: Any, targets: Any, count: int) -> Any:
    """Returns the sum of `head_nats` over `count`, float32 scalar, without ever holding all logits.

    The gradients are computed beside the loss, while a chunk's logits are at hand: nothing of (B, L, V) is kept or
    computed twice. `count` is the number of tokens of the whole batch, of which these may be a part.
    """

    def total(hidden: Any, table: Any) -> tuple[Any, Any]:
        parts, d_table = [], None
        for some_hidden, some_targets in _chunks(hidden, targets):
            # One chunk at a time: else the compiler keeps the logits of several.
            some_hidden = some_hidden if d_table is None else computed_after(some_hidden, d_table)
            loss, d_hidden, more = _chunk_loss(some_hidden, some_targets, table, count)
            parts.append((loss, d_hidden))
            d_table = more if d_table is None else d_table + more
        losses, d_hidden = zip(*parts, strict=True)
        d_hidden = ops.reshape(ops.concatenate(d_hidden), hidden.shape)

        def gradient(*upstream: Any, **_: Any) -> tuple[Any, Any]:
            (scale,) = upstream
            return d_hidden * ops.cast(scale, d_hidden.dtype), d_table * scale

        return sum(losses), gradient

    return ops.custom_gradient(total)(hidden, ops.convert_to_tensor(table))


def _chunks(hidden: Any, targets: Any) -> list[tuple[Any, Any]]:
    """Returns pieces of hidden (N, E) and targets (N,), N = B x L."""
    hidden, targets = ops.reshape(hidden, (-1, hidden.shape[-1])), ops.reshape(targets, (-1,))
    tokens = hidden.shape[0]
    size = chunk_tokens(tokens)
    return [(hidden[start : start + size], targets[start : start + size]) for start in range(0, tokens, size)]


def _chunk_loss(hidden: Any, targets: Any, table: Any, count: int) -> tuple[Any, Any, Any]:
    """Returns the sum of a chunk's nats over `count`, and its gradients with respect to hidden and table."""
    wide_hidden, target_rows = ops.cast(hidden, "float32"), ops.take(table, targets, axis=0)
    is_target = ops.arange(table.shape[0], dtype=targets.dtype) == targets[:, None]
    margins = _margins(hidden, head_logits(hidden, table), ops.sum(wide_hidden * target_rows, axis=-1, keepdims=True))
    target_margins = ops.sum(ops.where(is_target, margins, 0.0), axis=-1, keepdims=True)
    largest = ops.max(margins, axis=-1, keepdims=True)
    log_sums = largest + ops.log(ops.sum(ops.exp(margins - largest), axis=-1, keepdims=True))
    probabilities = ops.exp(margins - log_sums)
    d_hidden = (ops.matmul(probabilities, table) - target_rows) / count
    d_logits = (probabilities - ops.cast(is_target, "float32")) / count
    loss = ops.sum(log_sums - target_margins) / count
    return loss, ops.cast(d_hidden, hidden.dtype), ops.matmul(ops.transpose(d_logits), wide_hidden)


def _margins(hidden: Any, logits: Any, target_logits: Any) -> Any:
    """Returns float32 logits less those of the targets, rounded to the dtype of `hidden`, in which they are stored.

    Most of the loss's memory and traffic are these. Logits may share an offset, as GPT-2's do, of which bfloat16
    would leave little else; these are small, and so are their errors, where a probability is large.
    """
    return ops.cast(ops.cast(logits - target_logits, hidden.dtype), "float32")
