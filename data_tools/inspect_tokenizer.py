"""Print what a tokenizer makes of text: bytes per token by source, ids that no text has, and the longest tokens.

Give it text that the tokenizer was not trained on. A table of the sources goes to stderr, all of it as JSON to stdout.
"""

from algpt2 import interrupts

if __name__ == "__main__":
    interrupts.begin()

import argparse
import sys
from collections.abc import Sequence

from algpt2 import cli
from algpt2.progress import progress_bar
from algpt2.text.documents import Keys, iterate_documents, require_documents
from algpt2.text.input_files import input_bytes
from algpt2.text.separator import Separator
from algpt2.text.tokenizer import Tokenizer
from algpt2.text.tokenizer_report import report_on, table


def main(argv: Sequence[str]) -> int:
    """Prints the report as JSON, and its sources as a table."""
    arguments = parse(argv)
    keys = Keys(arguments.text_key, arguments.domain_key, Separator.of(arguments.document_separator))
    tokenizer = Tokenizer.load(arguments.tokenizer)
    with progress_bar("reading documents", "B", input_bytes(arguments.input)) as progress:
        documents = iterate_documents(arguments.input, keys, progress.update)
        report = report_on(tokenizer, require_documents(documents))
    print(table(report), file=sys.stderr)
    cli.print_json(report)
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    tokenizer_help = "made by train_tokenizer.py, or GPT-2's files"
    parser.add_argument("--tokenizer", required=True, metavar="DIR", help=tokenizer_help)
    parser.add_argument("--input", nargs="+", required=True, metavar="PATH", help="files, folders or patterns of text")
    cli.add_document_flags(parser)
    parser.add_argument("--domain_key", help="that of the source, as meta.pile_set_name (default: each file is one)")
    return parser


if __name__ == "__main__":
    cli.run(main)
