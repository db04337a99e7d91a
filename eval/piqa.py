"""Zero-shot accuracy of a checkpoint on PIQA: which of two solutions reaches a goal."""

from algpt2 import interrupts

if __name__ == "__main__":
    interrupts.begin()

import argparse
import sys
from collections.abc import Sequence

from algpt2 import cli, storage
from algpt2.config.options import add_options, given_options
from algpt2.config.scoring import ScoringConfig
from algpt2.devices import wheels


def main(argv: Sequence[str]) -> int:
    """Prints the accuracies as a table on stderr, and with all that they mean as JSON."""
    arguments = parse(argv)
    config = ScoringConfig(**given_options(arguments, ScoringConfig))
    wheels.load_tensorflow()

    from algpt2.checkpoints.opened import open_checkpoint
    from algpt2.devices import strategies
    from algpt2.devices.host_memory import out_of_memory
    from algpt2.evaluation.piqa import PROTOCOL, evaluate_piqa, read_questions
    from algpt2.evaluation.scorer import Scorer
    from algpt2.evaluation.zero_shot import result_of_protocol, table

    questions = read_questions(arguments.data, arguments.labels)
    strategy = strategies.create_strategy(config.tpu)
    checkpoint = open_checkpoint(arguments.checkpoint, arguments.ema, strategy, arguments.seq_len)
    scorer = Scorer(checkpoint.model, config.batch_size, strategy=strategy)
    results = {}
    with out_of_memory("lower --batch_size"):
        scores = evaluate_piqa(scorer, checkpoint.tokenizer, questions)
        results[PROTOCOL.name] = result_of_protocol(PROTOCOL, scores)
    print(table(results), file=sys.stderr)
    cli.print_json(
        {
            "checkpoint": checkpoint.folder,
            "ema": arguments.ema,
            "data": arguments.data,
            "sha256": storage.file_sha256(arguments.data),
            "labels": arguments.labels,
            "labels_sha256": storage.file_sha256(arguments.labels),
            "window": checkpoint.model.config.seq_len,
            "protocols": results,
        }
    )
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    cli.add_checkpoint_flags(parser)
    parser.add_argument("--data", required=True, metavar="FILE", help="valid.jsonl, on disk or gs://")
    parser.add_argument("--labels", required=True, metavar="FILE", help="valid-labels.lst, which belongs to it")
    add_options(parser, ScoringConfig)
    return parser


if __name__ == "__main__":
    cli.run(main)
