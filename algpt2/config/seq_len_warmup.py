"""Short sequences first: records are cut into pieces that double in length until they are whole records.

Early training is steadier and cheaper on short sequences (Li et al. 2022, "The Stability-Efficiency Dilemma",
arXiv:2108.06084, who cut off the rest of each record). Here the rest becomes further rows of the batch, so that every
step has the same tokens and none is left out.
"""

from algpt2.config.growth import Growth
from algpt2.config.training import TrainConfig
from algpt2.errors import UserError


def seq_len_at(step: int, config: TrainConfig, seq_len: int) -> int:
    """Returns how many positions a row of the batch has at a step (0-based).

    Args:
      step: optimizer updates done before it.
      config: of the training.
      seq_len: positions of the model.
    """
    growth = _growth(config, seq_len)
    return seq_len >> (growth.times - growth.grown(step))


def steps_until_longer(step: int, config: TrainConfig, seq_len: int) -> int | None:
    """Returns how many steps, from this one on, rows stay as long as they are; None if they never grow again."""
    return _growth(config, seq_len).steps_until_next(step)


def require_doublings(config: TrainConfig, seq_len: int) -> None:
    """Raises `UserError` unless `initial_seq_len` grows into the model's seq_len by doubling."""
    initial = config.initial_seq_len
    if initial is None:
        return
    whole = seq_len % initial == 0 and seq_len > initial
    if not whole or (seq_len // initial) & (seq_len // initial - 1):
        raise UserError(
            f"initial_seq_len must be the model's seq_len {seq_len} halved one or more times, received {initial}: "
            f"{max(1, seq_len // 8)} would do."
        )
    doublings = _growth(config, seq_len).times
    if config.seq_len_warmup_steps < doublings:
        raise UserError(
            f"seq_len_warmup_steps must be at least one for each of the {doublings} doublings, received "
            f"{config.seq_len_warmup_steps}."
        )


def _growth(config: TrainConfig, seq_len: int) -> Growth:
    """Returns when the length doubles, until rows are whole records."""
    initial = config.initial_seq_len
    return Growth((seq_len // initial).bit_length() - 1 if initial else 0, config.seq_len_warmup_steps)
