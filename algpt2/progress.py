"""Progress on stderr: what is done, the rate, and what is left."""

import contextlib
import sys
from typing import Any, TextIO

from absl import logging
from tqdm import tqdm

TERMINAL_SECONDS = 0.5
LOG_SECONDS = 10.0
LIVE_LINE_FORMAT = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} steps{postfix}"


def progress_bar(description: str, unit: str, total: int | None = None) -> tqdm:
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


class LiveLine:
    """A bar of a run's steps on stderr, and nothing at all where that is no terminal."""

    def __init__(self, first_step: int, total_steps: int):
        self._bar: tqdm | None = None
        self._redirected = contextlib.ExitStack()
        if sys.stderr.isatty():
            self._bar = tqdm(
                initial=first_step,
                total=total_steps,
                bar_format=LIVE_LINE_FORMAT,
                file=sys.stderr,
                dynamic_ncols=True,
                mininterval=TERMINAL_SECONDS,
            )
            self._redirect(sys.stderr)

    def advance(self, n_steps: int, text: str) -> None:
        """Moves the bar on and shows a text behind it."""
        if self._bar is not None:
            # The bar may draw itself within `update`, so the text comes first.
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(n_steps)

    def close(self) -> None:
        """Leaves the line as it is, and gives what is logged from now on its stream back."""
        if self._bar is not None:
            self._bar.close()
        self._redirected.close()

    def _redirect(self, terminal: TextIO) -> None:
        """absl holds on to the stream that stderr was when it was imported, so both are replaced."""
        above, handler = _Above(terminal), logging.get_absl_handler().python_handler
        self._redirected.enter_context(contextlib.redirect_stderr(above))
        if handler.stream is terminal:
            handler.stream = above
            self._redirected.callback(setattr, handler, "stream", terminal)
        self._redirected.callback(above.finish)


class _Above:
    """A stream whose lines tqdm writes above its bars, each when it is whole."""

    def __init__(self, terminal: TextIO):
        self._terminal = terminal
        self._begun = ""

    def write(self, text: str) -> int:
        lines, newline, self._begun = (self._begun + text).rpartition("\n")
        if newline:
            tqdm.write(lines, file=self._terminal)
        return len(text)

    def finish(self) -> None:
        """Writes a line that was begun."""
        self._terminal.write(self._begun)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._terminal, name)
