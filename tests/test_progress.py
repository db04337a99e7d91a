"""The live line: one line on a terminal, log lines whole above it, and nothing where there is no terminal."""

import contextlib
import io
import sys

from absl import logging

from algpt2 import progress
from algpt2.progress import LiveLine

FIRST, SECOND = "loss 2.5000  12 tokens/s  3 s left", "loss 2.2500  12 tokens/s  2 s left"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def log(text):
    logging.get_absl_handler().handle(logging.get_absl_logger().makeRecord("", 20, "f.py", 1, text, (), None))


def shown_on(monkeypatch, stream):
    """Returns what a line, log lines and another package's output leave on a stream."""
    handler = logging.get_absl_handler().python_handler
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_DRAWINGS_ON_TERMINAL", 0)
    monkeypatch.setattr(handler, "stream", stream)
    with contextlib.redirect_stderr(stream):
        line = LiveLine(20, 100)
        line.advance(10, FIRST)
        log("step 30 happened")
        print("two", "parts", file=sys.stderr)
        line.advance(10, SECOND)
        line.close()
        assert sys.stderr is handler.stream is stream
        log("the end")
    return stream.getvalue()


def test_a_terminal_shows_the_place_and_other_lines_stand_whole_above_it(monkeypatch):
    shown = shown_on(monkeypatch, Terminal())
    parts = shown.replace("\n", "\r").split("\r")
    bars = [part for part in parts if "%|" in part]
    assert any(" 30%|" in bar and bar.rstrip().endswith(f"30/100 steps, {FIRST}") for bar in bars)
    assert bars[-1].rstrip().endswith(f"40/100 steps, {SECOND}")
    assert not any("happened" in bar or "parts" in bar for bar in bars)
    assert "two parts\n" in shown
    assert shown.endswith("the end\n")


def test_other_things_than_steps_are_counted_and_may_become_more(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_DRAWINGS_ON_TERMINAL", 0)
    with contextlib.redirect_stderr(stream):
        line = LiveLine(1, 4, unit="cells")
        line.advance(1, "gpt2", total=8)
        line.close()
    assert stream.getvalue().split("\r")[-1].rstrip().endswith("2/8 cells, gpt2")


def test_elsewhere_there_are_those_lines_alone(monkeypatch):
    lines = shown_on(monkeypatch, io.StringIO()).splitlines()
    for line, end in zip(lines, ["step 30 happened", "two parts", "the end"], strict=True):
        assert line.endswith(end)


def test_a_hidden_bar_writes_nothing_and_the_next_one_is_seen_again(capsys):
    with progress.hidden_bars(), progress.progress_bar("scoring", "token", 3) as bar:
        bar.update(3)
        assert not progress.is_bar_open()
    assert capsys.readouterr().err == ""
    with progress.progress_bar("scoring", "token", 3) as bar:
        bar.update(3)
    assert "scoring" in capsys.readouterr().err
