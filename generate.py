"""Continue a prompt with a trained model. The text goes to stdout as JSON."""

from algpt2 import interrupts

if __name__ == "__main__":
    interrupts.begin()

import argparse
from collections.abc import Sequence

from algpt2 import cli
from algpt2.config.options import add_options, given_options
from algpt2.config.sampling import SamplingConfig
from algpt2.devices import wheels


def main(argv: Sequence[str]) -> int:
    """Prints prompt and continuation as JSON."""
    arguments = parse(argv)
    config = SamplingConfig(**given_options(arguments, SamplingConfig))
    wheels.load_tensorflow()

    from algpt2.checkpoints.folder import find_checkpoint
    from algpt2.checkpoints.save_load import load_model
    from algpt2.data.tokenizer import Tokenizer
    from algpt2.evaluation.generation import CachedDecoder, generate

    checkpoint = find_checkpoint(arguments.checkpoint)
    decoder = CachedDecoder(load_model(checkpoint, ema=arguments.ema))
    text = generate(decoder, Tokenizer.load(checkpoint.folder), arguments.prompt, config)
    cli.print_json({"checkpoint": checkpoint.folder, "prompt": arguments.prompt, "text": text})
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    cli.add_checkpoint_flags(parser)
    parser.add_argument("--prompt", default="", help="text to continue (default: the start of a document)")
    add_options(parser, SamplingConfig)
    return parser


if __name__ == "__main__":
    cli.run(main)
