"""Progress on stderr: bars that show what is done, the rate and what is left, and a line that stays below the log."""

import contextlib
import contextvars
import sys
import weakref
from collections.abc import Iterator
from typing import Any, TextIO

from absl import logging
from tqdm import tqdm

# How often a bar is drawn anew: on a terminal in place, in a log file as one more line.
SECONDS_BETWEEN_DRAWINGS_ON_TERMINAL = 0.5
SECONDS_BETWEEN_DRAWINGS_IN_FILE = 10.0
LIVE_LINE_FORMAT = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} {unit}{postfix}"

_bars: "weakref.WeakSet[tqdm]" = weakref.WeakSet()
_bars_are_hidden: contextvars.ContextVar[bool] = contextvars.ContextVar("bars_are_hidden", default=False)


def is_bar_open() -> bool:
    """Returns whether a bar stands on stderr, so that whatever is written next continues its line."""
    return any(not bar.disable for bar in _bars)


@contextlib.contextmanager
def hidden_bars() -> Iterator[None]:
    """Lets no bar be drawn that is made inside, where a log has a line of its own for each thing done."""
    before = _bars_are_hidden.set(True)
    try:
        yield
    finally:
        _bars_are_hidden.reset(before)


def progress_bar(description: str, unit: str, total: int | None = None) -> tqdm:
    """Returns a progress bar on stderr; use it in a `with` block and call `update(n)`.

    Args:
      description: what is being done, in two or three words.
      unit: what is counted, for example `B`; large counts are shown with k, M or G in front of it.
      total: how many there are, or None if that is not known. With it the bar also shows the time left.
    """
    is_terminal = sys.stderr.isatty()
    interval = SECONDS_BETWEEN_DRAWINGS_ON_TERMINAL if is_terminal else SECONDS_BETWEEN_DRAWINGS_IN_FILE
    bar = tqdm(
        desc=description,
        unit=unit,
        unit_scale=True,
        total=total,
        file=sys.stderr,
        mininterval=interval,
        maxinterval=interval,
        disable=_bars_are_hidden.get(),
        dynamic_ncols=is_terminal,
    )
    _bars.add(bar)
    return bar


class LiveLine:
    """A bar of a run's steps, or the like, that stays the last line of a terminal, while log lines appear above it.

    It writes nothing where stderr is not a terminal.

    Args:
      first_step: steps that were done before this process began.
      total_steps: the steps of the whole run.
      unit: what they are.
    """

    def __init__(self, first_step: int, total_steps: int, unit: str = "steps"):
        self._bar: tqdm | None = None
        self._redirected = contextlib.ExitStack()
        if sys.stderr.isatty():
            self._bar = tqdm(
                initial=first_step,
                total=total_steps,
                bar_format=LIVE_LINE_FORMAT,
                unit=unit,
                file=sys.stderr,
                dynamic_ncols=True,
                mininterval=SECONDS_BETWEEN_DRAWINGS_ON_TERMINAL,
            )
            _bars.add(self._bar)
            self._redirect(sys.stderr)

    def advance(self, n_steps: int, text: str, total: int | None = None) -> None:
        """Moves the bar on by a number of steps, and shows a text behind it; `total` is how many there are now."""
        if self._bar is not None:
            self._bar.total = total or self._bar.total
            # `update` may draw the bar, which should have the new text by then.
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(n_steps)

    def close(self) -> None:
        """Leaves the bar as it stands; what is written after this goes straight to stderr again."""
        if self._bar is not None:
            self._bar.close()
        self._redirected.close()

    def _redirect(self, terminal: TextIO) -> None:
        """Sends both what is printed and what is logged above the bar.

        Log lines need a step of their own: absl's handler keeps the stream that stderr was when absl was imported.
        """
        above_bar, handler = _AboveBar(terminal), logging.get_absl_handler().python_handler
        self._redirected.enter_context(contextlib.redirect_stderr(above_bar))
        if handler.stream is terminal:
            handler.stream = above_bar
            self._redirected.callback(setattr, handler, "stream", terminal)
        self._redirected.callback(above_bar.write_rest)


class _AboveBar:
    """A stream that passes each line on, as soon as it is whole, to tqdm, which writes it above its bars."""

    def __init__(self, terminal: TextIO):
        self._terminal = terminal
        self._unfinished_line = ""

    def write(self, text: str) -> int:
        lines, newline, self._unfinished_line = (self._unfinished_line + text).rpartition("\n")
        if newline:
            tqdm.write(lines, file=self._terminal)
        return len(text)

    def write_rest(self) -> None:
        """Writes the line that was begun and has no end yet."""
        self._terminal.write(self._unfinished_line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._terminal, name)
