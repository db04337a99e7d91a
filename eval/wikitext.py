"""Perplexity and bits per byte of a checkpoint on WikiText's test file, or another text, under every usual protocol.

The same model's figures on the same file differ by half with the protocol, so each stands beside what it was computed
from. A table is on stderr; JSON on stdout: an object for one protocol, a list of such objects for several.
"""

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
from algpt2.evaluation.protocols import PROTOCOLS
from algpt2.evaluation.wikitext_files import download, read_wikitext


def main(argv: Sequence[str]) -> int:
    """Prints a table of the figures, and the figures with their protocols as JSON."""
    arguments = parse(argv)
    config = ScoringConfig(**given_options(arguments, ScoringConfig))
    wheels.load_tensorflow()

    from algpt2.checkpoints.opened import open_checkpoint
    from algpt2.devices import strategies
    from algpt2.devices.host_memory import out_of_memory
    from algpt2.evaluation.perplexity import check_stride, check_text, evaluate, require_full_window
    from algpt2.evaluation.protocol_table import format_table
    from algpt2.evaluation.scorer import Scorer

    protocols = [PROTOCOLS[name] for name in dict.fromkeys(arguments.protocol or PROTOCOLS)]
    file = read_wikitext(arguments.data or download(arguments.download))
    check_text(file.text, protocols)
    strategy = strategies.create_strategy(config.tpu)
    opened = open_checkpoint(arguments.checkpoint, arguments.ema, strategy, arguments.seq_len)
    check_stride(arguments.stride, protocols, opened.model.config.seq_len)
    scorer = Scorer(opened.model, config.batch_size, strategy=strategy)
    with out_of_memory("lower --batch_size"):
        results = evaluate(scorer, opened.tokenizer, file.text, protocols, arguments.stride)
    require_full_window(results)
    print(format_table(results), file=sys.stderr)
    source = {"checkpoint": opened.folder, "ema": arguments.ema, "data": file.path, "data_sha256": file.sha256}
    results = [{**source, **result} for result in results]
    cli.print_json(results if len(results) > 1 else results[0])
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    cli.add_checkpoint_flags(parser)
    place = parser.add_mutually_exclusive_group(required=True)
    data_help = "a UTF-8 text file, or a folder that holds one test file such as wiki.test.raw, on disk or gs://"
    place.add_argument("--data", metavar="PATH", help=data_help)
    download_help = "score WikiText's official test file, which is fetched to this folder unless it is there already"
    place.add_argument("--download", metavar="DIR", help=download_help)
    names = tuple(PROTOCOLS)
    protocol_help = f"what is scored, and what it is divided by: {', '.join(names)} (default: all)"
    parser.add_argument("--protocol", nargs="+", metavar="NAME", choices=names, help=protocol_help)
    stride_help = "positions between windows, for protocols that leave it open (default: the model's seq_len)"
    parser.add_argument("--stride", type=int, help=stride_help)
    add_options(parser, ScoringConfig)
    return parser


if __name__ == "__main__":
    cli.run(main)
