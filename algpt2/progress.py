"""Progress on stderr: what is done, the rate, and what is left."""

import sys

from tqdm import tqdm

TERMINAL_SECONDS = 0.5
LOG_SECONDS = 10.0


def bar(description: str, unit: str, total: int | None = None) -> tqdm:
    """Returns a progress bar on stderr; use it in a `with` block and call `update(n)`.

    Args:
      description: what is being done, in two or three words.
      unit: what is counted, for example `B`; large counts get a suffix (k, M, G).
      total: how many there are, or None if unknown; with it the bar also shows the time left.
    """
    is_terminal = sys.stderr.isatty()
    return tqdm(
        desc=description,
        unit=unit,
        unit_scale=True,
        total=total,
        file=sys.stderr,
        mininterval=TERMINAL_SECONDS if is_terminal else LOG_SECONDS,
        maxinterval=TERMINAL_SECONDS if is_terminal else LOG_SECONDS,
        dynamic_ncols=is_terminal,
    )
