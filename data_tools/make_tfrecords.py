"""Turn documents into TFRecord shards for training: tokenised, split, shuffled and packed."""

from algpt2 import interrupts

if __name__ == "__main__":
    interrupts.begin()

import argparse
from collections.abc import Sequence

from algpt2 import cli
from algpt2.config.options import add_options, given_options
from algpt2.config.records import RecordOptions
from algpt2.errors import UserError
from algpt2.preparation.beam import job_of
from algpt2.preparation.mixture import weighted_inputs
from algpt2.preparation.plan import Part
from algpt2.preparation.preparation import encode_part, make_tfrecords
from algpt2.processes import available_cpus


def main(argv: Sequence[str]) -> int:
    """Writes the shards, and prints their counts as JSON."""
    arguments = parse(argv)
    options = RecordOptions(**given_options(arguments, RecordOptions))
    beam_job = job_of(arguments.beam_runner, arguments.beam_option)
    num_workers = _num_workers(arguments)
    inputs = weighted_inputs(arguments.input, arguments.weight or ())
    work = (inputs, arguments.tokenizer, arguments.output, options, num_workers)
    if arguments.shard is None:
        cli.print_json(make_tfrecords(*work, arguments.merge, beam_job))
    else:
        cli.print_json(encode_part(*work, Part.parse(arguments.shard)))
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    parser.add_argument(
        "--input",
        nargs="+",
        action="append",
        required=True,
        metavar="PATH",
        help="files, folders or patterns of documents, on disk or gs://; may be repeated",
    )
    parser.add_argument(
        "--weight",
        type=float,
        action="append",
        help="how often each document of an --input is taken: 2 is twice, 0.5 a half of them; one for each --input, or "
        "none at all",
    )
    parser.add_argument(
        "--tokenizer", required=True, metavar="DIR", help="made by train_tokenizer.py, or GPT-2's files"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="new folder, on disk or gs://")
    parser.add_argument(
        "--num_workers",
        type=int,
        help="processes that share the work; they change nothing of what is written (default: one for each CPU)",
    )
    machines = parser.add_mutually_exclusive_group()
    machines.add_argument(
        "--shard",
        metavar="I/N",
        help="encode the I-th part, from 0, of N that as many machines do, at any time, into the same output",
    )
    machines.add_argument(
        "--beam_runner",
        metavar="NAME",
        help="do the work in Apache Beam pipelines, by a runner such as DirectRunner or DataflowRunner (extra beam)",
    )
    machines.add_argument("--merge", action="store_true", help="make the records of all parts, when they are encoded")
    option_help = "an option of the Beam runner, such as project=NAME; may be repeated"
    parser.add_argument("--beam_option", action="append", default=[], metavar="NAME=VALUE", help=option_help)
    add_options(parser, RecordOptions)
    return parser


def _num_workers(arguments: argparse.Namespace) -> int:
    if arguments.num_workers is None:
        return available_cpus()
    if arguments.beam_runner is not None:
        raise UserError(
            "--num_workers must not stand beside --beam_runner, whose options say how many it has: leave it out."
        )
    return arguments.num_workers


if __name__ == "__main__":
    cli.run(main)
