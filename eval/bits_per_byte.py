"""Bits per byte of a checkpoint on text or JSON lines, for each domain and in all, as The Pile's tables have them."""

from algpt2 import interrupts

if __name__ == "__main__":
    interrupts.begin()

import argparse
import sys
from collections.abc import Sequence

from algpt2 import cli
from algpt2.config.options import add_options, given_options
from algpt2.config.scoring import ScoringConfig
from algpt2.devices import wheels
from algpt2.text.documents import Keys
from algpt2.text.separator import Separator


def main(argv: Sequence[str]) -> int:
    """Prints the figures of each domain as a table, and the same with their protocol as JSON."""
    arguments = parse(argv)
    config = ScoringConfig(**given_options(arguments, ScoringConfig))
    wheels.load_tensorflow()

    from algpt2.checkpoints.opened import open_checkpoint
    from algpt2.devices import strategies
    from algpt2.devices.host_memory import out_of_memory
    from algpt2.evaluation.by_domain import DocumentSource, evaluate_by_domain, table
    from algpt2.evaluation.scorer import Scorer
    from algpt2.evaluation.windows import require_stride

    keys = Keys(arguments.text_key, arguments.domain_key, Separator.of(arguments.document_separator))
    source = DocumentSource(tuple(arguments.data), keys)
    strategy = strategies.create_strategy(config.tpu)
    opened = open_checkpoint(arguments.checkpoint, arguments.ema, strategy, arguments.seq_len)
    stride = require_stride(arguments.stride, opened.model.config.seq_len)
    scorer = Scorer(opened.model, config.batch_size, strategy=strategy)
    with out_of_memory("lower --batch_size"):
        result = evaluate_by_domain(scorer, opened.tokenizer, source, stride)
    print(table(result), file=sys.stderr)
    cli.print_json({"checkpoint": opened.folder, "ema": arguments.ema, "data": arguments.data, **result})
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    cli.add_checkpoint_flags(parser)
    data_help = "files, folders or patterns: .txt, .raw, .jsonl (also .gz, .xz, .zst) or .parquet, on disk or gs://"
    parser.add_argument("--data", nargs="+", required=True, metavar="PATH", help=data_help)
    cli.add_document_flags(parser)
    parser.add_argument("--domain_key", help="that of the domain, as meta.pile_set_name (default: the file is one)")
    parser.add_argument("--stride", type=int, help="positions between windows of a long document (default: seq_len)")
    add_options(parser, ScoringConfig)
    return parser


if __name__ == "__main__":
    cli.run(main)
