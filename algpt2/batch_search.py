"""The largest batch that fits into memory, in few trials, because each is a compilation."""

from collections.abc import Callable

MOST_TRIALS = 4


def largest_fitting(
    peak_bytes_of: Callable[[int], tuple[int, bool]],
    batch: int,
    peak_bytes: int,
    fits: bool,
    fixed_bytes: int,
    memory_bytes: int,
) -> tuple[int, bool]:
    """Returns the largest batch found to fit, 0 if none, and whether one more is known not to fit.

    Args:
      peak_bytes_of: tries a batch; returns its peak and whether it fits.
      batch: a batch tried before,
      peak_bytes: its peak,
      fits: and whether it fits.
      fixed_bytes: what any batch needs.
      memory_bytes: what there is. The next trial is where a line through what is known reaches it.
    """
    peaks = {0: fixed_bytes, batch: peak_bytes}
    largest, smallest_too_large = (batch, None) if fits else (0, batch)
    for _ in range(MOST_TRIALS):
        if smallest_too_large == largest + 1:
            break
        trial = _next_trial(peaks, largest, smallest_too_large, memory_bytes)
        peaks[trial], fits = peak_bytes_of(trial)
        if fits:
            largest = trial
        else:
            smallest_too_large = trial
    return largest, smallest_too_large == largest + 1


def _next_trial(peaks: dict[int, int], largest: int, too_large: int | None, memory_bytes: int) -> int:
    below, above = sorted(peaks)[-2:] if too_large is None else (largest, too_large)
    per_sequence = max(1, (peaks[above] - peaks[below]) / (above - below))
    guess = int(below + (memory_bytes - peaks[below]) / per_sequence)
    most = 8 * largest if too_large is None else too_large - 1
    return min(max(guess, largest + 1), max(most, largest + 1))
