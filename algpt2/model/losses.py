"""Next-token cross-entropy in float32. The shift into inputs and targets is here and nowhere else."""

import math

from keras import ops

from algpt2.model.ordering import computed_after
from algpt2.model.sizes import chunk_tokens
from algpt2.model.tensors import Tensor, TensorLike


def inputs_and_targets(records: TensorLike) -> tuple[TensorLike, TensorLike]:
    """int32 (..., L + 1) -> inputs (..., L) and targets (..., L): each target is the token after its input."""
    return records[..., :-1], records[..., 1:]


def token_nats(logits: TensorLike, targets: TensorLike) -> Tensor:
    """Returns the negative log-likelihood of each target: float32 (B, L), in nats.

    Args:
      logits: (B, L, V), any floating dtype.
      targets: int (B, L), each in [0, V).
    """
    logits = ops.cast(logits, "float32")
    target_logits = ops.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    return ops.logsumexp(logits, axis=-1) - target_logits


def head_logits(hidden: Tensor, table: TensorLike) -> Tensor:
    """Returns the logits of a tied head, float32 (..., V).

    Args:
      hidden: (..., E), any floating dtype.
      table: float32 (V, E).
    """
    # A float32 product of bfloat16 values: on TPU it runs at bfloat16 speed and keeps the float32 sum.
    return ops.matmul(ops.cast(hidden, "float32"), ops.transpose(ops.convert_to_tensor(table)))


def head_nats(hidden: Tensor, table: TensorLike, targets: TensorLike) -> Tensor:
    """Returns the negative log-likelihood of each target, float32 (B, L), in nats.

    Works chunk by chunk, so that it never holds all logits. For evaluation: the gradient that TensorFlow derives would
    keep them all, which `mean_head_nats` avoids.

    Args:
      hidden: (B, L, E), any floating dtype; B and L are known when the graph is made.
      table: float32 (V, E), the tied head.
      targets: int (B, L), each in [0, V).
    """
    chunks = token_chunks(hidden, targets)
    nats = [token_nats(head_logits(some_hidden, table), some_targets) for some_hidden, some_targets in chunks]
    return ops.reshape(ops.concatenate(nats), targets.shape)


def scored_head_nats(
    hidden: Tensor, table: TensorLike, targets: TensorLike, scored: TensorLike
) -> tuple[Tensor, Tensor]:
    """Returns the nats of the scored targets, float32 (B, L), and whether no logit is above theirs, bool (B, L).

    Only scored targets go through the head, chunk by chunk, in as many chunks as they fill; the others have 0 nats.

    Args:
      hidden: (B, L, E), any floating dtype; B and L are known when the graph is made.
      table: float32 (V, E), the tied head.
      targets: int (B, L), each in [0, V).
      scored: float32 (B, L), above 0 where a target is scored.
    """
    scored = ops.reshape(scored, (-1,)) > 0
    size = chunk_tokens(scored.shape[0])
    n_chunks = (ops.sum(ops.cast(scored, "int32")) + size - 1) // size
    in_order = _scored_first(scored, size)
    hidden = ops.take(ops.reshape(hidden, (-1, hidden.shape[-1])), in_order, axis=0)
    ordered_targets = ops.take(ops.reshape(targets, (-1,)), in_order)

    def score_chunk(i: Tensor, nats: Tensor, is_likeliest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        start = i * size
        logits = head_logits(ops.slice(hidden, (start, 0), (size, hidden.shape[-1])), table)
        some_targets = ops.slice(ordered_targets, (start,), (size,))
        target_logits = ops.take_along_axis(logits, some_targets[:, None], axis=-1)[:, 0]
        nats = ops.slice_update(nats, (start,), token_nats(logits, some_targets))
        return i + 1, nats, ops.slice_update(is_likeliest, (start,), target_logits >= ops.max(logits, axis=-1))

    nothing_yet = 0, ops.zeros(in_order.shape, "float32"), ops.zeros(in_order.shape, "bool")
    _, nats, is_likeliest = ops.while_loop(lambda i, *_: i < n_chunks, score_chunk, nothing_yet)
    place = ops.cumsum(ops.cast(scored, "int32")) - 1
    nats = ops.where(scored, ops.take(nats, place), 0.0)
    is_likeliest = scored & ops.take(is_likeliest, place)
    return ops.reshape(nats, targets.shape), ops.reshape(is_likeliest, targets.shape)


def mean_head_nats(
    hidden: Tensor, table: TensorLike, targets: TensorLike, count: int, weights: TensorLike | None = None
) -> Tensor:
    """Returns the sum of `head_nats`, weighted or not, over `count`, float32 (), without ever holding all logits.

    The gradients are computed beside the loss, while a chunk's logits are there: nothing of (B, L, V) is kept or
    computed twice.

    Args:
      hidden: (B, L, E), any floating dtype; B and L are known when the graph is made.
      table: float32 (V, E), the tied head.
      targets: int (B, L), each in [0, V).
      count: the number of tokens of the whole batch, of which these may be a part.
      weights: float32 (B, L), by which the nats are multiplied; None means that all are 1.
    """

    def total(hidden: Tensor, table: Tensor) -> tuple[Tensor, object]:
        losses, d_hiddens, d_table = [], [], None
        for (some_hidden, some_targets), some_weights in zip(
            token_chunks(hidden, targets), weight_chunks(weights, targets), strict=True
        ):
            if d_table is not None:
                # One chunk comes after the other, or the compiler would keep the logits of several.
                some_hidden = computed_after(some_hidden, d_table)
            loss, d_hidden, d_table_of_chunk = _chunk_loss(some_hidden, some_targets, table, count, some_weights)
            losses.append(loss)
            d_hiddens.append(d_hidden)
            d_table = d_table_of_chunk if d_table is None else d_table + d_table_of_chunk
        d_hidden = ops.reshape(ops.concatenate(d_hiddens), hidden.shape)

        def gradient(*upstream: Tensor, **_: object) -> tuple[Tensor, Tensor]:
            (scale,) = upstream
            return d_hidden * ops.cast(scale, d_hidden.dtype), d_table * scale

        return sum(losses), gradient

    return ops.custom_gradient(total)(hidden, ops.convert_to_tensor(table))


def token_chunks(hidden: Tensor, targets: TensorLike) -> list[tuple[Tensor, Tensor]]:
    """Returns the pieces, `chunk_tokens` long, of hidden (B, L, E) as (n, E) and of targets (B, L) as (n,)."""
    hidden, targets = ops.reshape(hidden, (-1, hidden.shape[-1])), ops.reshape(targets, (-1,))
    tokens = hidden.shape[0]
    size = chunk_tokens(tokens)
    return [(hidden[start : start + size], targets[start : start + size]) for start in range(0, tokens, size)]


def weight_chunks(weights: TensorLike | None, targets: TensorLike) -> list[Tensor | None]:
    """Returns weights (B, L) in the pieces of `token_chunks`, as (n, 1); None for each where there are none."""
    tokens = math.prod(targets.shape)
    size = chunk_tokens(tokens)
    starts = range(0, tokens, size)
    if weights is None:
        return [None for _ in starts]
    column = ops.reshape(weights, (-1, 1))
    return [column[start : start + size] for start in starts]


def _scored_first(scored: Tensor, chunk_size: int) -> Tensor:
    """bool (n,) -> int32: the indices of the scored ones in order, then of the others, then 0 up to whole chunks."""
    (n,) = scored.shape
    keys = ops.arange(n, dtype="int32") + n * ops.cast(ops.logical_not(scored), "int32")
    return ops.pad(ops.cast(ops.argsort(keys), "int32"), [[0, -n % chunk_size]])


def _chunk_loss(
    hidden: Tensor, targets: Tensor, table: Tensor, count: int, weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the sum of a chunk's weighted nats over `count`, and its gradients with respect to hidden and table.

    Args:
      hidden: (n, E), any floating dtype.
      targets: int (n,).
      table: float32 (V, E).
      count: what the sum is divided by.
      weights: float32 (n, 1); None means that all are 1.
    """
    float32_hidden, target_rows = ops.cast(hidden, "float32"), ops.take(table, targets, axis=0)
    is_target = ops.arange(table.shape[0], dtype=targets.dtype) == targets[:, None]
    logits = head_logits(hidden, table)
    margins = _margins(hidden, logits, ops.sum(float32_hidden * target_rows, axis=-1, keepdims=True))
    target_margins = ops.sum(ops.where(is_target, margins, 0.0), axis=-1, keepdims=True)
    largest = ops.max(margins, axis=-1, keepdims=True)
    log_sums = largest + ops.log(ops.sum(ops.exp(margins - largest), axis=-1, keepdims=True))
    probabilities = ops.exp(margins - log_sums)
    d_hidden = (ops.matmul(probabilities, table) - target_rows) / count
    d_logits = (probabilities - ops.cast(is_target, "float32")) / count
    nats = log_sums - target_margins
    if weights is not None:
        d_hidden, d_logits, nats = (weights * part for part in (d_hidden, d_logits, nats))
    loss = ops.sum(nats) / count
    return loss, ops.cast(d_hidden, hidden.dtype), ops.matmul(ops.transpose(d_logits), float32_hidden)


def _margins(hidden: Tensor, logits: Tensor, target_logits: Tensor) -> Tensor:
    """Returns float32 logits minus those of the targets, rounded to the dtype of `hidden`, in which they are stored.

    These differences are most of the loss's memory and traffic, so they are stored in the compute dtype. Plain logits
    could not be: those of GPT-2 share an offset of about -100, where the steps of bfloat16 are 0.5. A difference is
    small where its probability is large, and its rounding error is in proportion to it.

    Args:
      hidden: (n, E), whose dtype is the compute dtype.
      logits: float32 (n, V).
      target_logits: float32 (n, 1).
    """
    return ops.cast(ops.cast(logits - target_logits, hidden.dtype), "float32")
