"""Train GPT-2's kind of tokenizer, byte-level BPE, and write tokenizer.json, vocab.json and merges.txt."""

from algpt2 import interrupts

if __name__ == "__main__":
    interrupts.begin()

import argparse
from collections.abc import Sequence

from algpt2 import cli
from algpt2.config.records import SKIP, STOP
from algpt2.text.documents import Keys
from algpt2.text.separator import Separator
from algpt2.text.tokenizer_training import DEFAULT_MAX_BYTES, TextOptions, train_tokenizer


def main(argv: Sequence[str]) -> int:
    """Trains, and prints the tokenizer's size and checksum as JSON."""
    arguments = parse(argv)
    keys = Keys(arguments.text_key, separator=Separator.of(arguments.document_separator))
    options = TextOptions(keys, arguments.max_bytes, arguments.on_error)
    cli.print_json(train_tokenizer(arguments.input, arguments.vocab_size, arguments.output, options))
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    parser.add_argument("--input", nargs="+", required=True, help="files, folders or patterns of documents")
    parser.add_argument("--vocab_size", type=int, required=True, help="ids to make, <|endoftext|> included; from 257")
    parser.add_argument("--output", required=True, help="new folder, local or gs://")
    cli.add_document_flags(parser)
    max_help = f"most bytes of text to train on; of more text, a sample by a hash (default: {DEFAULT_MAX_BYTES})"
    parser.add_argument("--max_bytes", type=int, default=DEFAULT_MAX_BYTES, help=max_help)
    on_error_help = "what is done with input that is no document; skip counts it by kind (default: stop)"
    parser.add_argument("--on_error", choices=(STOP, SKIP), default=STOP, help=on_error_help)
    return parser


if __name__ == "__main__":
    cli.run(main)
