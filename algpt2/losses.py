"""Next-token cross-entropy in float32. The shift into inputs and targets is here and nowhere else."""

from typing import Any

from keras import ops


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
