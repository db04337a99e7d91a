"""What every script shares: its parser, its exit status, and its result as JSON on stdout."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import logging
from absl.flags import argparse_flags

from algpt2 import strict_json
from algpt2.errors import TrainingStopped, UserError

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_USER_ERROR = 2


def argument_parser(description: str) -> argparse_flags.ArgumentParser:
    """Returns a parser that also knows absl's own flags (`--verbosity`, `--log_dir`, ...)."""
    return argparse_flags.ArgumentParser(description=description, allow_abbrev=False)


def run(main: Callable[[Sequence[str]], int]) -> None:
    """Ends the process with the status of `main(arguments)`, or with 2 and one sentence for a `UserError`."""
    logging.use_absl_handler()
    logging.set_verbosity(logging.INFO)
    sys.exit(exit_status(main, sys.argv[1:]))


def exit_status(main: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Returns what `main` returns; prints a `UserError` on stderr and returns 2, a `TrainingStopped` and 1."""
    try:
        return main(arguments)
    except (UserError, TrainingStopped) as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR if isinstance(error, UserError) else EXIT_FAILURE


def print_json(result: Any) -> None:
    """Prints a result on stdout: the only thing a script writes there."""
    print(strict_json.dumps(result, indent=2), flush=True)
