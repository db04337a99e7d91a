"""The exceptions that end a script with one sentence on stderr instead of a traceback (`algpt2.cli.exit_status`)."""

from typing import Any

SHOWN_CHARACTERS = 200


class UserError(Exception):
    """Arguments or input are wrong, and the user can mend them: exit status 2.

    Its message is one sentence with the rule, what was received, and the remedy.
    """


class Interrupted(Exception):
    """A signal stopped a run, which saved first: exit status 75. The same command again goes on with it."""


class TrainingStopped(Exception):
    """A run cannot go on, although its input was right: exit status 1. Its checkpoints are intact.

    Examples are a loss that is not finite, a lost worker, and a last checkpoint that could not be written.
    """


class Diverged(TrainingStopped):
    """A run's loss or gradient is not finite, as it would be again with the same settings: exit status 1."""


class StorageUnavailable(Exception):
    """Cloud Storage does not answer, or not in time, although the path and the account may be right: exit status 1."""


class PipelineFailed(Exception):
    """A pipeline of Apache Beam failed, for example because its runner cannot start: exit status 1.

    What its workers have finished is kept.
    """


def shown(value: Any) -> str:
    """Returns a value as Python writes it, for a sentence; `shortened`."""
    return shortened(repr(value))


def shortened(text: str) -> str:
    """Returns a text, of a long one its beginning and its length.

    A file or a command line may hold a number of thousands of digits, which nobody wants to read back.
    """
    if len(text) <= SHOWN_CHARACTERS:
        return text
    return f"{text[:SHOWN_CHARACTERS]}... ({len(text)} characters)"
