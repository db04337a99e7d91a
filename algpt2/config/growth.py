"""Something that grows a number of times at equal distances over the first steps of a run, and then stays."""

from typing import NamedTuple


class Growth(NamedTuple):
    """When it grows.

    Attributes:
      times: how often; 0 means never.
      n_steps: the steps over which the times are spread evenly, at least one for each.
    """

    times: int
    n_steps: int

    def grown(self, step: int) -> int:
        """Returns how often it has grown by a step (0-based)."""
        return min(self.times, step * self.times // self.n_steps) if self.times else 0

    def steps_until_next(self, step: int) -> int | None:
        """Returns how many steps, from this one on, come before it grows again; None if it never does."""
        grown = self.grown(step)
        return None if grown == self.times else -(-(grown + 1) * self.n_steps // self.times) - step
