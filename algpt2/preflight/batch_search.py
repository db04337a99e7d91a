"""The largest batch that fits into memory, found in few trials, because each of them is a compilation."""

import dataclasses
from collections.abc import Callable

MOST_TRIALS = 6
# Memory grows with the batch along a line, but only until the compiler recomputes to make a batch fit. From this trial
# on the line has failed, and halves are tried.
_TRIALS_ON_LINE = 2


@dataclasses.dataclass(frozen=True)
class Trial:
    """A batch that was compiled: its peak memory, in bytes, and whether it fits."""

    batch: int
    peak_bytes: int
    fits: bool


def largest_fitting(
    compile_batch: Callable[[int], Trial], first: Trial, fixed_bytes: int, memory_bytes: int
) -> tuple[int, int | None]:
    """Returns the largest batch found to fit, 0 if none, and the smallest found not to, None if all fit.

    Args:
      compile_batch: compiles a batch.
      first: the batch that was compiled before the search.
      fixed_bytes: the memory that every batch needs.
      memory_bytes: the memory that there is. The next batch to try is the one at which a line through two known peaks
        reaches it.
    """
    nothing = Trial(0, fixed_bytes, fits=True)
    largest, too_large = (first, None) if first.fits else (nothing, first)
    below = nothing  # the trial before the largest
    for trials_done in range(MOST_TRIALS):
        if too_large is not None and too_large.batch == largest.batch + 1:
            break
        if too_large is None:
            at_most = (8 if trials_done < _TRIALS_ON_LINE else 2) * largest.batch
            batch = min(_batch_at(memory_bytes, below, largest), at_most)
        elif trials_done < _TRIALS_ON_LINE:
            batch = min(_batch_at(memory_bytes, largest, too_large), too_large.batch - 1)
        else:
            batch = (largest.batch + too_large.batch) // 2
        trial = compile_batch(max(batch, largest.batch + 1))
        if trial.fits:
            below, largest = largest, trial
        else:
            too_large = trial
    return largest.batch, too_large and too_large.batch


def _batch_at(memory_bytes: int, below: Trial, above: Trial) -> int:
    """Returns the batch that fills the memory, on the line through two others."""
    bytes_per_sequence = max(1, (above.peak_bytes - below.peak_bytes) / (above.batch - below.batch))
    return int(below.batch + (memory_bytes - below.peak_bytes) / bytes_per_sequence)
