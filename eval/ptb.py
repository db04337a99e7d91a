"""Zero-shot perplexity per word of a checkpoint on the Penn Treebank's preprocessed ptb.test.txt."""

from algpt2 import interrupts

if __name__ == "__main__":
    interrupts.begin()

import argparse
from collections.abc import Sequence

from algpt2 import cli
from algpt2.config.options import add_options, given_options
from algpt2.config.scoring import ScoringConfig
from algpt2.devices import wheels
from algpt2.text import documents

VARIANTS = ("raw", "detokenized")


def main(argv: Sequence[str]) -> int:
    """Prints the scores of each variant, what they are divided by, and the published figures as JSON."""
    arguments = parse(argv)
    config = ScoringConfig(**given_options(arguments, ScoringConfig))
    wheels.load_tensorflow()

    from algpt2.checkpoints.opened import open_checkpoint
    from algpt2.devices import strategies
    from algpt2.devices.host_memory import out_of_memory
    from algpt2.evaluation.penn_treebank import evaluate_penn_treebank
    from algpt2.evaluation.scorer import Scorer
    from algpt2.evaluation.windows import require_stride

    text = documents.read_text_file(arguments.data)
    strategy = strategies.create_strategy(config.tpu)
    opened = open_checkpoint(arguments.checkpoint, arguments.ema, strategy, arguments.seq_len)
    stride = require_stride(arguments.stride, opened.model.config.seq_len)
    scorer = Scorer(opened.model, config.batch_size, strategy=strategy)
    variants = [arguments.variant] if arguments.variant else VARIANTS
    with out_of_memory("lower --batch_size"):
        results = [evaluate_penn_treebank(scorer, opened.tokenizer, text, variant, stride) for variant in variants]
    cli.print_json({"checkpoint": opened.folder, "ema": arguments.ema, "data": arguments.data, "variants": results})
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    cli.add_checkpoint_flags(parser)
    parser.add_argument("--data", required=True, metavar="FILE", help="ptb.test.txt, on disk or gs://")
    parser.add_argument("--variant", choices=VARIANTS, help="which text is scored (default: both)")
    parser.add_argument("--stride", type=int, help="positions between windows (default: the model's seq_len)")
    add_options(parser, ScoringConfig)
    return parser


if __name__ == "__main__":
    cli.run(main)
