"""Programs that stand on PATH in the place of others: they keep what they are called with, and do what a test says."""

import os
from pathlib import Path

# Arguments are told apart by a character that no command line has, and calls by another.
ARGUMENT_END, CALL_END = "\x1f", "\x1e"
KEEP = """#!/usr/bin/env bash
( IFS=$'\\x1f'; printf '%s\\x1e' "$*" >>"$0.calls" )
"""


class FakeCommands:
    """A folder of fake programs, and the environment in which they are found first."""

    def __init__(self, folder: Path):
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, body: str = "") -> None:
        """Makes a program that keeps its arguments and then runs lines of bash."""
        program = self._folder / name
        program.write_text(KEEP + body)
        program.chmod(0o755)

    def calls(self, name: str) -> list[list[str]]:
        """Returns the arguments of each call of a program, in order."""
        kept = self._folder / f"{name}.calls"
        text = kept.read_text() if kept.exists() else ""
        return [call.split(ARGUMENT_END) for call in text.split(CALL_END)[:-1]]

    def environment(self, **variables: str) -> dict[str, str]:
        """Returns the environment of this process with the fakes in front of PATH, and with more variables."""
        return {**os.environ, "PATH": f"{self._folder}{os.pathsep}{os.environ['PATH']}", **variables}
