"""Report a study that ablations/run.py makes, finished or not: figures of arms, differences, gaps closed and rates.

Tables are on stderr, JSON on stdout; report.md, report.html and plots/*.svg are in the study's folder.
"""

from algpt2 import interrupts

if __name__ == "__main__":
    interrupts.begin()

import argparse
import sys
from collections.abc import Sequence

from algpt2 import cli
from algpt2.studies.report import make_report, write_report
from algpt2.studies.results import read_study


def main(argv: Sequence[str]) -> int:
    """Writes the files of the report, and prints its tables and its figures."""
    arguments = parse(argv)
    study = read_study(arguments.study)
    report = make_report(study)
    files = write_report(report, arguments.study)
    if arguments.tensorboard:
        from algpt2.studies.hparams import write_hparams

        files += write_hparams(study, arguments.study)
    print(report.text, file=sys.stderr)
    cli.print_json({**report.figures, "files": files})
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    parser.add_argument("study", metavar="DIR", help="the study's folder (--output of ablations/run.py), or gs://")
    tensorboard_help = "write tensorboard/ too, whose HPARAMS page has every finished cell (extra tensorboard)"
    parser.add_argument("--tensorboard", action="store_true", help=tensorboard_help)
    return parser


if __name__ == "__main__":
    cli.run(main)
