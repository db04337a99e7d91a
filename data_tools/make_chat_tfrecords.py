"""Turn conversations into TFRecord shards for fine-tuning: only what the assistant says counts in the loss.

Each line of the input is a JSON object such as {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant",
"content": "Hello!"}]}; a role is system, user or assistant.
"""

from algpt2 import interrupts

if __name__ == "__main__":
    interrupts.begin()

import argparse
from collections.abc import Sequence

from algpt2 import cli
from algpt2.config.chat_records import ChatRecordOptions
from algpt2.config.options import add_options, given_options
from algpt2.preparation.chat_records import make_chat_tfrecords


def main(argv: Sequence[str]) -> int:
    """Writes the shards, and prints their counts as JSON."""
    arguments = parse(argv)
    options = ChatRecordOptions(**given_options(arguments, ChatRecordOptions))
    cli.print_json(make_chat_tfrecords(arguments.input, arguments.tokenizer, arguments.output, options))
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
        required=True,
        metavar="PATH",
        help="files, folders or patterns of JSON lines of conversations, on disk or gs://",
    )
    parser.add_argument(
        "--tokenizer",
        required=True,
        metavar="DIR",
        help="of the model that is to be fine-tuned, such as its checkpoint; the chat tokens are added behind its last",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="new folder, on disk or gs://")
    add_options(parser, ChatRecordOptions)
    return parser


if __name__ == "__main__":
    cli.run(main)
