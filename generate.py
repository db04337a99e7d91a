"""Continue prompts with a trained model: as JSON on stdout, or, on a terminal, as text while it is made."""

from algpt2 import interrupts

if __name__ == "__main__":
    interrupts.begin()

import argparse
import io
import itertools
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from algpt2 import cli
from algpt2.config.options import add_options, given_options
from algpt2.config.sampling import GenerationConfig, SamplingConfig
from algpt2.devices import wheels
from algpt2.errors import UserError
from algpt2.text.prompts import read_prompts

if TYPE_CHECKING:
    from algpt2.evaluation.generated_texts import TextGenerator


def main(argv: Sequence[str]) -> int:
    """Prints prompts and continuations."""
    arguments = parse(argv)
    sampling = SamplingConfig(**given_options(arguments, SamplingConfig))
    generation = GenerationConfig(**given_options(arguments, GenerationConfig))
    _check(arguments, sampling, generation)
    prompts = read_prompts(arguments.prompt_file) if arguments.prompt_file else arguments.prompt or [""]
    wheels.load_tensorflow()

    import tensorflow as tf

    from algpt2.checkpoints.opened import open_checkpoint
    from algpt2.devices.host_memory import out_of_memory
    from algpt2.evaluation.generated_texts import TextGenerator
    from algpt2.evaluation.generation import CachedDecoder

    opened = open_checkpoint(arguments.checkpoint, arguments.ema, tf.distribute.get_strategy(), arguments.seq_len)
    generator = TextGenerator(CachedDecoder(opened.model), opened.tokenizer, sampling, generation)
    with out_of_memory("lower --batch_size"):
        if arguments.interactive:
            _converse(generator, generation.samples)
        elif sys.stdout.isatty() and not arguments.json:
            _show(generator, prompts, generation.samples)
        else:
            _print(opened.folder, generator, prompts)
    return cli.EXIT_OK


def _check(arguments: argparse.Namespace, sampling: SamplingConfig, generation: GenerationConfig) -> None:
    given = [name for name in ("prompt", "prompt_file", "interactive") if getattr(arguments, name)]
    if len(given) > 1:
        raise UserError(f"prompts must come from one place, received --{' and --'.join(given)}: leave one out.")
    if sampling.temperature == 0 and generation.samples > 1:
        raise UserError(
            f"--samples must be 1 where the likeliest token is always taken, received {generation.samples} with "
            "--temperature 0: they would all be the same."
        )
    if arguments.interactive and (arguments.json or not sys.stdout.isatty()):
        raise UserError("--interactive must write to a terminal and not JSON: give --prompt or --prompt_file instead.")


def _print(folder: str, generator: "TextGenerator", prompts: Sequence[str]) -> None:
    """Prints all texts as JSON."""
    texts = [text._asdict() for text in generator.texts(prompts)]
    cli.print_json({"checkpoint": folder, "texts": texts, "tokens_per_second": generator.tokens_per_second()})


def _show(generator: "TextGenerator", prompts: Iterable[str], samples: int) -> None:
    """Writes prompts and texts to the terminal, one after the other, each while it is made."""
    for prompt in prompts:
        for sample in range(samples):
            pieces = generator.stream(prompt, sample)
            for piece in itertools.chain([prompt], pieces, ["\n"]):
                cli.print_text(piece)
    print(f"{generator.tokens_per_second():.1f} tokens/s", file=sys.stderr)


def _converse(generator: "TextGenerator", samples: int) -> None:
    """Shows the texts of each line that is typed, and what is wrong with it where it cannot be continued."""
    for prompt in _typed_prompts():
        try:
            _show(generator, [prompt], samples)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)


def _typed_prompts() -> Iterator[str]:
    """Yields the lines of stdin; what is not UTF-8 there is refused with its prompt."""
    stdin = sys.stdin or io.StringIO()
    if isinstance(stdin, io.TextIOWrapper):
        stdin.reconfigure(encoding="utf-8", errors="surrogateescape")
    while True:
        print("> ", end="", file=sys.stderr, flush=True)
        line = stdin.readline()
        if not line:
            print(file=sys.stderr)
            return
        yield line.removesuffix("\n")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    cli.add_checkpoint_flags(parser)
    parser.add_argument(
        "--prompt", action="append", help="text to continue; may be repeated (default: the start of a document)"
    )
    parser.add_argument("--prompt_file", metavar="FILE", help="a prompt on each line, or in each object of a .jsonl")
    parser.add_argument("--interactive", action="store_true", help="continue each line that is typed, until Ctrl-D")
    parser.add_argument("--json", action="store_true", help="print JSON on a terminal, too")
    add_options(parser, SamplingConfig)
    add_options(parser, GenerationConfig)
    return parser


if __name__ == "__main__":
    cli.run(main)
