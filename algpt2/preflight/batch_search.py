"""The largest batch that fits into memory, in few trials, because each is a compilation."""

from collections.abc import Callable, Sequence

MOST_TRIALS = 6


def largest_fitting(
    peak_bytes_of: Callable[[int], tuple[int, bool]],
    batch: int,
    peak_bytes: int,
    fits: bool,
    fixed_bytes: int,
    memory_bytes: int,
) -> tuple[int, int | None]:
    """Returns the largest batch found to fit, 0 if none, and the smallest found not to, None if all fit.

    Args:
      peak_bytes_of: tries a batch; returns its peak and whether it fits.
      batch: a batch tried before,
      peak_bytes: its peak,
      fits: and whether it fits.
      fixed_bytes: what any batch needs.
      memory_bytes: what there is. The next trial is where a line through what is known reaches it.
    """
    peaks = {0: fixed_bytes, batch: peak_bytes}
    largest, too_large = (batch, None) if fits else (0, batch)
    for trials_done in range(MOST_TRIALS):
        if too_large == largest + 1:
            break
        if too_large is None:
            most = (8 if trials_done < 2 else 2) * largest
            trial = min(max(_on_line(peaks, sorted(peaks)[-2:], memory_bytes), largest + 1), most)
        elif trials_done < 2:
            trial = min(max(_on_line(peaks, (largest, too_large), memory_bytes), largest + 1), too_large - 1)
        else:  # memory is no line, then
            trial = (largest + too_large) // 2
        peaks[trial], fits = peak_bytes_of(trial)
        if fits:
            largest = trial
        else:
            too_large = trial
    return largest, too_large


def _on_line(peaks: dict[int, int], through: Sequence[int], memory_bytes: int) -> int:
    """Returns the batch that fills the memory, on the line through two others."""
    below, above = through
    per_sequence = max(1, (peaks[above] - peaks[below]) / (above - below))
    return int(below + (memory_bytes - peaks[below]) / per_sequence)
