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
    from algpt2.evaluation.chat import ChatPrompts
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
    from algpt2.evaluation.chat import ChatPrompts
    from algpt2.evaluation.generated_texts import TextGenerator
    from algpt2.evaluation.generation import CachedDecoder

    opened = open_checkpoint(arguments.checkpoint, arguments.ema, tf.distribute.get_strategy(), arguments.seq_len)
    chat = ChatPrompts(opened.tokenizer, arguments.system) if arguments.chat else None
    generator = TextGenerator(CachedDecoder(opened.model), opened.tokenizer, sampling, generation, chat)
    with out_of_memory("lower --batch_size"):
        if arguments.interactive:
            _converse(generator, generation.samples, chat)
        elif sys.stdout.isatty() and not arguments.json:
            _show(generator, prompts, generation.samples, between="\n" if chat else "")
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
    _check_chat(arguments, bool(given), generation.samples)


def _check_chat(arguments: argparse.Namespace, has_prompts: bool, samples: int) -> None:
    if arguments.system is not None and not arguments.chat:
        raise UserError("--system is what a chat begins with, and --chat was not given: give both or neither.")
    if arguments.chat and not has_prompts:
        raise UserError("--chat needs what the user says, and there is nothing: give --prompt or --interactive.")
    if arguments.chat and arguments.interactive and samples > 1:
        raise UserError(
            "--samples must be 1 with --chat --interactive, where a reply is part of what follows, received "
            f"{samples}: leave it out."
        )


def _print(folder: str, generator: "TextGenerator", prompts: Sequence[str]) -> None:
    """Prints all texts as JSON."""
    texts = [text._asdict() for text in generator.texts(prompts)]
    cli.print_json({"checkpoint": folder, "texts": texts, "tokens_per_second": generator.tokens_per_second()})


def _show(generator: "TextGenerator", prompts: Iterable[str], samples: int, between: str = "") -> None:
    """Writes prompts and texts to the terminal, one after the other, each while it is made."""
    for prompt in prompts:
        for sample in range(samples):
            _show_pieces(itertools.chain([prompt, between], generator.stream(prompt, sample)))
    print(f"{generator.tokens_per_second():.1f} tokens/s", file=sys.stderr)


def _show_pieces(pieces: Iterable[str]) -> str:
    """Writes a text to the terminal while it is made; returns it."""
    shown = []
    for piece in pieces:
        cli.print_text(piece)
        shown.append(piece)
    cli.print_text("\n")
    return "".join(shown)


def _converse(generator: "TextGenerator", samples: int, chat: "ChatPrompts | None") -> None:
    """Shows the texts of each line that is typed, and what is wrong with it where it cannot be continued.

    In a chat they are replies, which all that is typed later follows; an empty line begins another one.
    """
    for prompt in _typed_prompts():
        try:
            if chat is None:
                _show(generator, [prompt], samples)
            elif prompt:
                chat.remember(prompt, _show_pieces(generator.stream(prompt, 0)))
            else:
                chat.begin_anew()
                print("a new conversation begins", file=sys.stderr)
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
    parser.add_argument(
        "--chat",
        action="store_true",
        help="take a prompt as what a user says, and answer; with --interactive, an empty line begins another chat",
    )
    parser.add_argument("--system", metavar="TEXT", help="--chat: the system's message, in front of all others")
    parser.add_argument("--json", action="store_true", help="print JSON on a terminal, too")
    add_options(parser, SamplingConfig)
    add_options(parser, GenerationConfig)
    return parser


if __name__ == "__main__":
    cli.run(main)
