"""What the training loop carries from one graph call to the next."""

import dataclasses

from algpt2.training.spikes import SkipState


@dataclasses.dataclass(frozen=True)
class LoopState:
    """Where a run stands, beside the variables of its model and optimizer. The loop alone replaces it.

    step: optimizer steps done, which is also the 0-based number of the next one.
    skips: what the next steps need in order to skip harmful updates.
    """

    step: int
    skips: SkipState
