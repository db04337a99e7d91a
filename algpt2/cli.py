"""What every script shares: its parser, its exit status, its log lines on stderr and its result as JSON on stdout.

The exit statuses of every command:

0    it is done
1    a run cannot go on, or the program is at fault
2    the user can mend it: arguments, input, a full disk, a stdout that does not take the result
75   a signal stopped a run, which saved first: the same command goes on with it
130  SIGINT ended the command; so did a second signal a run (143 if that was SIGTERM), which did not save
"""

import atexit
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

from absl import flags
from absl import logging as absl_logging
from absl.flags import argparse_flags

from algpt2 import interrupts, standard_streams
from algpt2.errors import Interrupted, PipelineFailed, StorageUnavailable, TrainingStopped, UserError
from algpt2.storage import json_files

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 75  # EX_TEMPFAIL of sysexits.h: the same command may succeed later


class LogFormatter(logging.Formatter):
    """Log lines such as `11-25 00:34:24 step 350/800  loss 4.2` and `11-25 00:34:24 warning: ...`."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s", datefmt="%m-%d %H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802, the name is the standard library's
        """Returns the line of a record: only what is more or less than information says its level."""
        if record.levelno != logging.INFO:
            record.message = f"{record.levelname.lower()}: {record.message}"
        return super().formatMessage(record)


class _Parser(argparse_flags.ArgumentParser):
    """A parser whose help, like a result, must reach stdout; argparse's own does not notice if it does not."""

    def print_help(self, file: TextIO | None = None) -> None:
        if file is not None:
            super().print_help(file)
            return
        with _refusing_a_stdout_that_fails():
            standard_streams.write_result(self.format_help().rstrip("\n"))


def argument_parser(description: str) -> argparse_flags.ArgumentParser:
    """Returns a parser that also knows absl's own flags (`--verbosity`, `--log_dir`, ...)."""
    return _Parser(description=description, allow_abbrev=False)


def add_checkpoint_flags(parser: argparse_flags.ArgumentParser) -> None:
    """Adds the flags that name a trained model and how it is used: `--checkpoint`, `--ema` and `--seq_len`."""
    parser.add_argument("--checkpoint", required=True, metavar="DIR", help="a checkpoint, or a --model_dir with some")
    parser.add_argument("--ema", action="store_true", help="take the moving average of the weights (--ema_decay)")
    seq_len_help = "positions of a window, or of prompt and text; not the model's own only with position_encoding alibi"
    parser.add_argument("--seq_len", type=int, help=seq_len_help)


def add_document_flags(parser: argparse_flags.ArgumentParser) -> None:
    """Adds the flags that tell documents and their text: `--text_key` and `--document_separator`."""
    parser.add_argument("--text_key", default="text", help="JSON key or Parquet column of the text (default: text)")
    separator_help = "text between the documents of a .txt or .raw file; without it, each file is one document"
    parser.add_argument("--document_separator", help=separator_help)


def run(main: Callable[[Sequence[str]], int]) -> None:
    """Ends the process with the `exit_status` of `main` and the process's arguments, or with 130 if SIGINT comes.

    Nothing is run without a stdout, because a run of days would then end without a place for its result.
    """
    interrupts.begin()
    set_up_logging()
    if standard_streams.stdout_is_closed():
        sys.exit(_report("stdout must be open for the result, and it is closed: send it to a file.", EXIT_USER_ERROR))
    end_process(interrupts.cleaned_up(lambda: _flushed_status(main, sys.argv[1:])))


def end_process(status: int) -> None:
    """Ends the process, after what is registered in `atexit` has run and what was written is flushed.

    Once TensorFlow is imported, its threads are not waited for. Python would wait, when it deletes the iterator of an
    input pipeline, and such a thread may be trying for minutes to read from a service that is away.
    """
    if "tensorflow" not in sys.modules:
        sys.exit(status)
    atexit._run_exitfuncs()  # `os._exit` would leave them out, and temporary files would stay
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # What could not be written has been told by now.
            stream.flush()
    os._exit(status)


def set_up_logging() -> None:
    """Sends log lines to stderr, in the format of `LogFormatter` and from `info` on unless `--verbosity` is given.

    Other packages' lines begin at `warning`. `--verbosity 1` shows every line of every package.
    """
    absl_logging.use_absl_handler()
    absl_logging.set_verbosity(absl_logging.INFO)
    handler = absl_logging.get_absl_handler()
    handler.python_handler.stream = sys.stderr  # absl keeps what stderr was when absl was imported
    handler.setFormatter(LogFormatter())
    handler.addFilter(_is_shown)


def exit_status(main: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Returns what `main` returns, or prints the reason why it raised as one line on stderr.

    Returns:
      The status of `main`; 2 if the user can mend what is wrong, which includes an `OSError` that names a file (not
      found, no permission, no space left); 75 if a signal stopped a run after it had saved; 1 if a run cannot go on,
      a pipeline failed, or Cloud Storage does not answer.

    Raises:
      Exception: any other one, which is a fault of the program, so that its traceback is seen.
    """
    try:
        return main(arguments)
    except UserError as error:
        return _report(str(error), EXIT_USER_ERROR)
    except Interrupted as error:
        return _report(str(error), EXIT_INTERRUPTED)
    except (TrainingStopped, StorageUnavailable, PipelineFailed) as error:
        return _report(str(error), EXIT_FAILURE)
    except flags.Error as error:  # absl's own flags, whose parser has its own exceptions
        return _report(str(error).removeprefix("ERROR:: "), EXIT_USER_ERROR)
    except OSError as error:
        if error.filename is None:
            raise
        sentence = f"{str(error.filename)!r} could not be read or written ({error.strerror}): name another or mend it."
        return _report(sentence, EXIT_USER_ERROR)


def print_json(result: Any) -> None:
    """Prints a result on stdout: the only thing a script writes there.

    Raises:
      UserError: stdout cannot take it, because its disk is full or its reader is gone.
    """
    with _refusing_a_stdout_that_fails():
        standard_streams.write_result(json_files.dumps(result, indent=2))


def print_text(text: str) -> None:
    """Writes a piece of text for a person on stdout at once; what the terminal's encoding lacks becomes `?`.

    Raises:
      UserError: as `print_json`.
    """
    with _refusing_a_stdout_that_fails():
        standard_streams.write_text(text)


def _flushed_status(main: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> int:
    """Returns the `exit_status` of `main`, or argparse's; 2 if what argparse printed cannot be written."""
    try:
        status = exit_status(main, arguments)
    except SystemExit as ended:
        status = ended.code
    try:
        with _refusing_a_stdout_that_fails():
            standard_streams.flush_stdout()
    except UserError as error:
        return _report(str(error), EXIT_USER_ERROR)
    return status


@contextlib.contextmanager
def _refusing_a_stdout_that_fails() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"stdout must take the result, and it could not be written there ({error.strerror}): send it to a file."
        ) from error


def _is_shown(record: logging.LogRecord) -> bool:
    is_ours = record.name == absl_logging.get_absl_logger().name
    return is_ours or record.levelno >= logging.WARNING or absl_logging.level_debug()


def _report(sentence: str, status: int) -> int:
    print("error:", " ".join(sentence.splitlines()), file=sys.stderr)
    return status
