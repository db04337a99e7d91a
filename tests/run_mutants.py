"""Puts each deliberate mistake of tests/mutants into a copy of the code, where its tests must fail.

A table on stderr, the result as JSON on stdout; status 1 if a mistake is not noticed.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

TESTS = Path(__file__).parent
sys.path.insert(0, str(TESTS / "helpers"))

from mutant_lists import Mutant, read_mutants  # noqa: E402, the line above says where it is
from mutant_trials import Trial, try_mutants  # noqa: E402

from algpt2 import cli  # noqa: E402
from algpt2.errors import UserError  # noqa: E402


def main(argv: Sequence[str]) -> int:
    """Tries the mutants; returns 0 if the tests notice every one, else 1."""
    arguments = parse(argv)
    mutants = chosen(read_mutants(TESTS / "mutants"), arguments.only)
    trials: list[Trial] = []
    try:
        for trial in try_mutants(
            mutants, TESTS.parent, arguments.jobs, arguments.limit_seconds, ("tensorflow", "keras")
        ):
            trials.append(trial)
            print(line_of(trial, len(trials), len(mutants)), file=sys.stderr, flush=True)
    except ValueError as error:
        raise UserError(str(error)) from error
    missed = [trial for trial in trials if not trial.is_noticed]
    print(f"{len(trials) - len(missed)} of {len(trials)} mistakes are noticed", file=sys.stderr)
    cli.print_json({"noticed": len(trials) - len(missed), "trials": [record_of(trial) for trial in trials]})
    return cli.EXIT_FAILURE if missed else cli.EXIT_OK


def chosen(mutants: list[Mutant], text: str) -> list[Mutant]:
    """Returns the mutants whose sentence, file or tests contain a text.

    Raises:
      UserError: there is none.
    """
    found = [one for one in mutants if any(text in part for part in (one.mistake, one.file, *one.tests))]
    if not found:
        raise UserError(f"--only must be part of a mistake's sentence, file or tests, received {text!r}.")
    return found


def line_of(trial: Trial, number: int, total: int) -> str:
    """Returns a trial's line of the table, and under it what pytest printed where nothing could be tested."""
    mutant = trial.mutant
    line = f"{number:3}/{total} {trial.outcome.value:9}{trial.seconds:5.0f} s  {mutant.file}: {mutant.mistake}"
    return line if trial.is_noticed else f"{line}\n{trial.output_tail}"


def record_of(trial: Trial) -> dict:
    """Returns a trial as plain JSON values."""
    return {"outcome": trial.outcome.value, "seconds": round(trial.seconds, 1), **dataclasses.asdict(trial.mutant)}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    parser.add_argument("--only", default="", help="a part of the sentence, file or tests of the mistakes to try")
    parser.add_argument("--jobs", type=int, default=1, help="how many to try at once, each in a copy of its own")
    parser.add_argument("--limit_seconds", type=float, default=300.0, help="after which a trial's tests are ended")
    return parser


if __name__ == "__main__":
    cli.run(main)
