"""Tasks of lm-evaluation-harness on a checkpoint: the harness's own ones, and those of local task files."""

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


def main(argv: Sequence[str]) -> int:
    """Prints the harness's figures as a table on stderr, and with all that they mean as JSON."""
    arguments = parse(argv)
    config = ScoringConfig(**given_options(arguments, ScoringConfig))
    wheels.load_tensorflow()

    from algpt2.checkpoints.opened import open_checkpoint
    from algpt2.devices import strategies
    from algpt2.devices.host_memory import out_of_memory
    from algpt2.evaluation import harness_tasks
    from algpt2.evaluation.scorer import Scorer

    request = harness_tasks.HarnessRequest(
        tuple(arguments.tasks), arguments.include_path, arguments.limit, arguments.num_fewshot
    )
    harness_tasks.require_harness()
    strategy = strategies.create_strategy(config.tpu)
    checkpoint = open_checkpoint(arguments.checkpoint, arguments.ema, strategy, arguments.seq_len)
    tasks = harness_tasks.load_tasks(request)

    from algpt2.evaluation.harness_model import HarnessModel

    scorer = Scorer(checkpoint.model, config.batch_size, strategy=strategy)
    model = HarnessModel(scorer, checkpoint.tokenizer)
    with out_of_memory("lower --batch_size"):
        outcome = harness_tasks.evaluate_tasks(model, tasks, request)
    print(harness_tasks.table(outcome), file=sys.stderr)
    cli.print_json({"checkpoint": checkpoint.folder, "ema": arguments.ema, **harness_tasks.figures(outcome)})
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    cli.add_checkpoint_flags(parser)
    parser.add_argument(
        "--tasks",
        required=True,
        nargs="+",
        metavar="TASK",
        help="tasks, groups or tags of the harness, patterns with *, or paths of task files",
    )
    parser.add_argument("--include_path", metavar="DIR", help="a folder with more task files")
    parser.add_argument("--limit", type=int, help="examples of each task (default: all)")
    parser.add_argument(
        "--num_fewshot", type=int, help="solved examples in front of each (default: what the task says)"
    )
    add_options(parser, ScoringConfig)
    return parser


if __name__ == "__main__":
    cli.run(main)
