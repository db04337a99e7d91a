"""Read every shard of a folder of TFRecords, count anew, and compare with the manifest.

With --repair, make the shards that are missing, truncated or altered anew, of the text that the records were made of,
and leave the others as they are.
"""

from algpt2 import interrupts

if __name__ == "__main__":
    interrupts.begin()

import argparse
from collections.abc import Sequence

from algpt2 import cli
from algpt2.config.records import ENCODERS
from algpt2.devices import wheels
from algpt2.errors import UserError
from algpt2.processes import available_cpus


def main(argv: Sequence[str]) -> int:
    """Prints the counts of the folder, and which shards were made anew, as JSON."""
    arguments = parse(argv)
    wheels.load_tensorflow()

    from algpt2.preparation.repair import repair
    from algpt2.records.verification import verify

    if arguments.repair:
        num_workers = available_cpus() if arguments.num_workers is None else arguments.num_workers
        cli.print_json(repair(arguments.input, arguments.sources or (), num_workers, arguments.encoder))
    else:
        for name in ("sources", "num_workers", "encoder"):
            if getattr(arguments, name):
                raise UserError(f"--{name} is for --repair, which was not given: give both or neither.")
        cli.print_json(verify(arguments.input))
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    parser.add_argument("--input", required=True, metavar="DIR", help="folder of records, on disk or gs://")
    parser.add_argument("--repair", action="store_true", help="make missing and damaged shards anew from the text")
    parser.add_argument(
        "--sources",
        nargs="+",
        metavar="PATH",
        help="--repair: what --input of make_tfrecords.py named, where it lies now (default: where it was)",
    )
    workers_help = "--repair: processes that share the work (default: one for each CPU)"
    parser.add_argument("--num_workers", type=int, help=workers_help)
    encoder_help = "--repair: the library that makes ids; all make the same (default: the one that made the records)"
    parser.add_argument("--encoder", choices=ENCODERS, help=encoder_help)
    return parser


if __name__ == "__main__":
    cli.run(main)
