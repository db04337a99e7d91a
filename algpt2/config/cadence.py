"""`Cadence`: how often a run logs, validates, saves and checks itself."""

import dataclasses
import math

from algpt2.config.options import option, require


@dataclasses.dataclass(frozen=True)
class Cadence:
    """How often a run logs, validates and saves, in steps. Changing it does not change the weights.

    Raises:
      UserError: a value breaks the rule that the sentence names.
    """

    log_every_steps: int = option(50, "steps between log lines")
    eval_every_steps: int = option(1000, "steps between validations, each over the whole validation set")
    save_every_steps: int = option(1000, "steps between checkpoints")
    steps_per_loop: int = option(50, "most steps inside one graph call")
    save_every_minutes: float = option(0.0, "minutes between checkpoints, beside --save_every_steps; 0 is off")
    keep_checkpoints: int = option(3, "newest checkpoints that stay in the run's folder")
    keep_every_steps: int = option(0, "checkpoints of every so many steps stay for good; 0 is off")
    numerics_batches: int = option(
        0, "validation batches that each checkpoint is scored on in --compute_dtype and in float32; 0 is off"
    )
    numerics_tolerance: float = option(0.02, "difference of those losses, in nats per token, that is a warning")

    def __post_init__(self) -> None:
        may_be_off = ("save_every_minutes", "keep_every_steps", "numerics_batches", "numerics_tolerance")
        for name, value in dataclasses.asdict(self).items():
            least = 0 if name in may_be_off else 1
            require(least <= value < math.inf, name, f"at least {least}", value)

    def steps_until_next_stop(self, step: int, total_steps: int) -> int:
        """Returns how many steps the next graph call runs: up to the next log, validation, checkpoint or the end."""
        periods = (self.log_every_steps, self.eval_every_steps, self.save_every_steps)
        to_next = [period - step % period for period in periods]
        return min(*to_next, self.steps_per_loop, total_steps - step)
