"""Rehearse recipes on the TPU pods that they are for; write what each takes as JSON, for docs/reference/recipes.md.

A compilation takes a minute or two, and gigabytes of this machine's memory: 4.5 to 8 for models of GPT-2's size.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import logging

from algpt2 import cli, storage
from algpt2.preflight.rehearsal import rehearse
from algpt2.runs.recipes import read_recipe, recipe_names, step_of
from algpt2.storage import json_files

RECIPES = str(Path(__file__).resolve().parents[1] / "recipes")
FIGURES = ("pod", "libtpu", "batch_per_core", "fits", "peak_hbm_bytes", "hbm_bytes")
SPEED = ("roofline_seconds", "mfu_at_roofline", "hours_at_roofline")


def main(argv: Sequence[str]) -> int:
    """Rehearses the recipes one after the other, and prints all figures; the file is written after each of them."""
    arguments = parse(argv)
    rows = _rows_made_before(arguments.output)
    for name in arguments.recipes:
        rows[name] = rehearsed(name)
        logging.info("%s: %s", name, rows[name])
        storage.write_text(arguments.output, json_files.dumps(rows, indent=2) + "\n")
    cli.print_json(rows)
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    names = recipe_names(RECIPES)
    parser.add_argument("--recipes", nargs="+", required=True, choices=names, metavar="NAME", help="which of recipes/")
    output_help = "JSON to write; the recipes in it that are not named stay (default: docs/reference/recipes.json)"
    parser.add_argument("--output", metavar="FILE", default="docs/reference/recipes.json", help=output_help)
    return parser


def rehearsed(name: str) -> dict[str, Any]:
    """Returns what a recipe's step takes of a core of its pod; no hours where the records decide how many steps."""
    recipe = read_recipe(name, RECIPES)
    figures = rehearse(*step_of(recipe), recipe.pod, search=False).figures()
    row = {key: figures[key] for key in (*FIGURES, *SPEED)}
    return row if "steps" in recipe.flags else {**row, "hours_at_roofline": None}


def _rows_made_before(path: str) -> dict[str, Any]:
    return json_files.read_object(path, "this script") if storage.exists(path) else {}


if __name__ == "__main__":
    cli.run(main)
