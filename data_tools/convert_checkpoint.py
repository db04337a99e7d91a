"""Make a checkpoint of a Hugging Face GPT-2, or write a checkpoint in the form of another program.

The input says which way it goes. A folder of Hugging Face's GPT-2 (config.json, safetensors, tokenizer files) becomes a
checkpoint, which evaluates, generates, and begins a run with --initialize_from. A checkpoint needs --to.
"""

from algpt2 import interrupts

if __name__ == "__main__":
    interrupts.begin()

import argparse
from collections.abc import Sequence

from algpt2 import cli
from algpt2.devices import wheels
from algpt2.interchange.ways_out import WAYS_OUT


def main(argv: Sequence[str]) -> int:
    """Converts, and prints what came out as JSON."""
    arguments = parse(argv)
    wheels.load_tensorflow()

    from algpt2.interchange.convert import convert

    cli.print_json(convert(arguments.input, arguments.output, arguments.to, arguments.evaluation))
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    input_help = "a checkpoint, a --model_dir, which stands for its newest, or a folder of Hugging Face's GPT-2"
    parser.add_argument("--input", required=True, metavar="DIR", help=input_help)
    parser.add_argument("--output", required=True, metavar="DIR", help="a new or empty folder, on disk or gs://")
    parser.add_argument("--to", choices=tuple(WAYS_OUT), help="the form in which a checkpoint is written")
    evaluation_help = "what scripts of eval/ printed of the checkpoint, for its model card"
    parser.add_argument("--evaluation", nargs="+", default=[], metavar="FILE", help=evaluation_help)
    return parser


if __name__ == "__main__":
    cli.run(main)
