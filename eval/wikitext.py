"""Zero-shot perplexity and bits per byte of a checkpoint on a text file such as WikiText's wiki.test.raw."""

from algpt2 import interrupts

if __name__ == "__main__":
    interrupts.begin()

import argparse
from collections.abc import Sequence

from algpt2 import cli
from algpt2.data import documents
from algpt2.devices import wheels
from algpt2.errors import UserError, shown


def main(argv: Sequence[str]) -> int:
    """Prints the scores and their protocol as JSON."""
    arguments = parse(argv)
    wheels.load_tensorflow()

    from algpt2.checkpoints.folder import find_checkpoint
    from algpt2.checkpoints.save_load import load_model
    from algpt2.data.tokenizer import Tokenizer
    from algpt2.devices.host_memory import out_of_memory
    from algpt2.evaluation.perplexity import PROTOCOLS, evaluate_text
    from algpt2.evaluation.scorer import Scorer

    text = documents.read_text_file(arguments.data)
    checkpoint = find_checkpoint(arguments.checkpoint)
    model = load_model(checkpoint, ema=arguments.ema)
    stride = model.config.seq_len if arguments.stride is None else arguments.stride
    if not 1 <= stride <= model.config.seq_len:
        raise UserError(
            f"--stride must be from 1 to the model's seq_len {model.config.seq_len}, received {shown(stride)}."
        )
    if arguments.batch_size < 1:
        raise UserError(f"--batch_size must be at least 1, received {shown(arguments.batch_size)}.")
    protocol = PROTOCOLS[arguments.protocol]
    scorer = Scorer(model, arguments.batch_size)
    with out_of_memory("lower --batch_size"):
        result = evaluate_text(scorer, Tokenizer.load(checkpoint.folder), text, protocol, stride)
    cli.print_json({"checkpoint": checkpoint.folder, "data": arguments.data, **result})
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    cli.add_checkpoint_flags(parser)
    parser.add_argument("--data", required=True, metavar="FILE", help="a UTF-8 text file, on disk or gs://")
    parser.add_argument("--protocol", choices=("hf", "raw"), default="hf", help="what is scored (default: hf)")
    parser.add_argument("--stride", type=int, help="positions between windows (default: the model's seq_len)")
    parser.add_argument("--batch_size", type=int, default=8, help="windows a forward pass (default: 8)")
    return parser


if __name__ == "__main__":
    cli.run(main)
