"""What every script shares: its parser, its exit status, and its result as JSON on stdout."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags, logging
from absl.flags import argparse_flags

from algpt2.errors import Interrupted, TrainingStopped, UserError
from algpt2.storage import json_files

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL of sysexits.h: try again


def argument_parser(description: str) -> argparse_flags.ArgumentParser:
    """Returns a parser that also knows absl's own flags (`--verbosity`, `--log_dir`, ...)."""
    return argparse_flags.ArgumentParser(description=description, allow_abbrev=False)


def run(main: Callable[[Sequence[str]], int]) -> None:
    """Ends the process with the `exit_status` of `main` and the process's arguments."""
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    sys.exit(exit_status(main, sys.argv[1:]))


def exit_status(main: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Returns what `main` returns, or prints one line on stderr: 2 for what a user can mend, 1 for a stopped run,
    75 for one that a signal interrupted after saving.

    An `OSError` that names a file (not found, no permission, no space left) is the user's to mend too.
    """
    try:
        return main(arguments)
    except UserError as error:
        return _report(str(error), EXIT_USER_ERROR)
    except Interrupted as error:
        return _report(str(error), EXIT_INTERRUPTED)
    except TrainingStopped as error:
        return _report(str(error), EXIT_FAILURE)
    except flags.Error as error:  # absl's own flags, whose parser has its own exceptions
        return _report(str(error).removeprefix("ERROR:: "), EXIT_USER_ERROR)
    except OSError as error:
        if error.filename is None:
            raise
        sentence = f"{str(error.filename)!r} could not be read or written ({error.strerror}): name another or mend it."
        return _report(sentence, EXIT_USER_ERROR)


def print_json(result: Any) -> None:
    """Prints a result on stdout: the only thing a script writes there."""
    print(json_files.dumps(result, indent=2), flush=True)


def _report(sentence: str, status: int) -> int:
    print("error:", " ".join(sentence.splitlines()), file=sys.stderr)
    return status
