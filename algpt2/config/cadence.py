"""`Cadence`: how often a run logs, validates, saves and checks itself."""

import dataclasses

from algpt2.config.options import COUNT, at_least, option, require_rules


@dataclasses.dataclass(frozen=True)
class Cadence:
    """How often a run logs, validates, saves and checks itself. Changing it does not change the weights.

    Each field says what it is in its option's help text.

    Raises:
      UserError: a value breaks the rule that the sentence names.
    """

    log_every_steps: int = option(50, "steps between log lines", rule=at_least(1))
    eval_every_steps: int = option(
        1000, "steps between validations, each over the whole validation set", rule=at_least(1)
    )
    save_every_steps: int = option(1000, "steps between checkpoints", rule=at_least(1))
    steps_per_loop: int = option(50, "most steps inside one graph call", rule=at_least(1))
    save_every_minutes: float = option(
        0.0, "minutes between checkpoints, beside --save_every_steps; 0 is off", rule=at_least(0)
    )
    keep_checkpoints: int = option(3, "newest checkpoints that stay in the run's folder", rule=COUNT)
    keep_every_steps: int = option(0, "checkpoints of every so many steps stay for good; 0 is off", rule=at_least(0))
    numerics_batches: int = option(
        0,
        "validation batches that each checkpoint is scored on in --compute_dtype and in float32; 0 is off",
        rule=at_least(0),
    )
    numerics_tolerance: float = option(
        0.02, "difference of those losses, in nats per token, that is a warning", rule=at_least(0)
    )

    def __post_init__(self) -> None:
        require_rules(self)

    def steps_until_next_stop(self, step: int, total_steps: int) -> int:
        """Returns how many steps the next graph call runs: at most to the next log, validation, checkpoint or the end.

        Args:
          step: optimizer updates done so far.
          total_steps: those of the whole run.
        """
        periods = (self.log_every_steps, self.eval_every_steps, self.save_every_steps)
        to_next = [period - step % period for period in periods]
        return min(*to_next, self.steps_per_loop, total_steps - step)
