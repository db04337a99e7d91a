"""Measure the memory of the preparation of records, and of the training of a tokenizer, for text of several sizes.

Each command is run on text that repeats the input's documents, with a number in front of each so that no two are alike,
up to so many megabytes. What counts is the largest process. Memory that does not depend on the text has the ratio 1.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from algpt2 import cli
from algpt2.config.records import ENCODERS
from algpt2.text.documents import iterate_documents

REPOSITORY = Path(__file__).resolve().parents[1]
MEGABYTE = 10**6
SEPARATOR = "<|endoftext|>"


def main(argv: Sequence[str]) -> int:
    """Prints the most megabytes that a process had, by command and by the text's megabytes, and their ratio."""
    arguments = parse(argv)
    texts = [document.text for document in iterate_documents([arguments.input])]
    with tempfile.TemporaryDirectory() as folder:
        files = {size: os.path.join(folder, f"{size}.{arguments.suffix}") for size in arguments.megabytes}
        for size, file in files.items():
            write_text(file, texts, size * MEGABYTE, arguments.documents)
        found = {
            name: {size: _peak_megabytes([*command, "--input", file]) for size, file in files.items()}
            for name, command in _commands(arguments, folder).items()
        }
    ratios = {name: max(peaks.values()) / min(peaks.values()) for name, peaks in found.items()}
    cli.print_json({name: {"megabytes": found[name], "ratio": ratios[name]} for name in found})
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    parser.add_argument("--input", required=True, metavar="FILE", help="documents that the text is made of, on disk")
    parser.add_argument("--tokenizer", required=True, metavar="DIR", help="made by train_tokenizer.py")
    sizes_help = "sizes of the text (default: 100 1000)"
    parser.add_argument("--megabytes", type=int, nargs="+", default=[100, 1000], help=sizes_help)
    suffix_help = "JSON lines, or one .txt file with few documents (default: jsonl)"
    parser.add_argument("--suffix", choices=("jsonl", "txt"), default="jsonl", help=suffix_help)
    parser.add_argument("--documents", type=int, default=30, help="documents of a .txt file (default: 30)")
    parser.add_argument("--encoder", choices=ENCODERS, default=ENCODERS[0], help="(default: tokenizers)")
    parser.add_argument("--num_workers", type=int, default=2, help="processes of the preparation (default: 2)")
    bytes_help = "text that the tokenizer is trained on; without it, none is trained"
    parser.add_argument("--max_bytes", type=int, help=bytes_help)
    return parser


def write_text(file: str, texts: Sequence[str], size_bytes: int, documents: int) -> None:
    """Writes text of about so many bytes: JSON lines, or if the name ends in .txt so many documents of one size."""
    numbered = (f"{number} {text}" for number, text in enumerate(itertools.cycle(texts)))
    with open(file, "w", encoding="utf-8") as stream:
        if file.endswith(".jsonl"):
            while stream.tell() < size_bytes:
                stream.writelines(json.dumps({"text": next(numbered)}) + "\n" for _ in range(100))
            return
        for document in range(1, documents + 1):
            while stream.tell() < size_bytes * document / documents:
                stream.writelines(next(numbered) + "\n" for _ in range(100))
            stream.write(SEPARATOR)


def _commands(arguments: argparse.Namespace, folder: str) -> dict[str, list[str]]:
    """Returns the commands by their names, but for the input; each writes to a new folder."""
    separator = ["--document_separator", SEPARATOR] if arguments.suffix == "txt" else []
    records = [
        *("data_tools/make_tfrecords.py", "--tokenizer", arguments.tokenizer, "--encoder", arguments.encoder),
        *("--num_workers", str(arguments.num_workers), *separator),
    ]
    commands = {"make_tfrecords": records}
    if arguments.max_bytes is not None:
        training = ["data_tools/train_tokenizer.py", "--max_bytes", str(arguments.max_bytes), "--vocab_size", "4096"]
        commands["train_tokenizer"] = [*training, *separator]
    return commands


def _peak_megabytes(command: Sequence[str]) -> float:
    """Runs a script; returns the most megabytes that it, or a process that it started, had."""
    with tempfile.TemporaryDirectory() as folder:
        output = os.path.join(folder, "output")
        process = subprocess.Popen(
            [sys.executable, *command, "--output", output], cwd=REPOSITORY, stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}")
    return usage.ru_maxrss * 1024 / MEGABYTE


if __name__ == "__main__":
    cli.run(main)
