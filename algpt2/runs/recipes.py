"""Recipes: the flags of a published training run, in a TOML file, with what is known of it.

The flags of a recipe stand in front of those on the command line, which therefore win.
"""

import argparse
import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from algpt2 import storage
from algpt2.config.model import GPTConfig
from algpt2.config.training import TrainConfig
from algpt2.errors import UserError, shown
from algpt2.storage import json_files, toml_files

SUFFIX = ".toml"
# Two ways of saying one thing: the command line's takes the place of the recipe's.
RIVALS = ({"steps", "epochs"}, {"warmup_steps", "warmup_tokens"})


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a recipe's file says.

    Attributes:
      source: whose run it is, with the address.
      data: the text, and how it is prepared.
      published: the result that its authors published.
      differs: what is not as in the source, and why.
      pod: the TPU that it is meant for, such as "v3-128".
      flags: of train_tfrecords.py, each by its name.
    """

    source: str
    data: str
    published: str
    differs: str
    pod: str
    flags: dict[str, Any]


def recipe_names(folder: str) -> list[str]:
    """Returns the names of the recipes in a folder, sorted."""
    return sorted(path.stem for path in Path(folder).glob(f"*{SUFFIX}"))


def read_recipe(name_or_path: str, folder: str) -> Recipe:
    """Returns the recipe of a name, or in a TOML file.

    Args:
      name_or_path: one of `recipe_names(folder)`, or a path that ends in .toml.
      folder: where the named ones are.

    Raises:
      UserError: there is none of that name, the file is no TOML, or a key is unknown, missing or of another type.
    """
    if not name_or_path.endswith(SUFFIX):
        names = recipe_names(folder)
        if name_or_path not in names:
            raise UserError(_no_such_recipe(name_or_path, names))
        name_or_path = storage.join(folder, f"{name_or_path}{SUFFIX}")
    remedy = "mend it or name another --recipe"
    with json_files.refusing(name_or_path, "be TOML", remedy):
        fields = toml_files.parse_object(storage.read_text(name_or_path))
    with json_files.refusing(name_or_path, "be a recipe", remedy):
        return json_files.build(Recipe, fields)


def step_of(recipe: Recipe) -> tuple[GPTConfig, TrainConfig]:
    """Returns the model of a recipe and the settings of its step on a TPU, without any records.

    With a length in epochs the number of steps depends on the records, and it is taken to be 1. For EOS, where
    attention stays within documents, the last id of the model is taken.
    """
    flags = recipe.flags
    model = GPTConfig.from_preset(flags["config_path"])
    if flags.get("document_mask"):
        model = dataclasses.replace(model, document_eos_id=model.vocab_size - 1)
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    settings = {name: value for name, value in flags.items() if name in known}
    steps = flags.get("steps", 1)
    return model, TrainConfig(**{"total_steps": steps, "compute_dtype": "bfloat16", **settings})


def _no_such_recipe(name: str, names: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"name one of {', '.join(names)}."
    return f"--recipe must name a recipe or a {SUFFIX} file, received {shown(name)}: {hint}"


def with_recipe(argv: Sequence[str], parser: argparse.ArgumentParser, folder: str) -> list[str]:
    """Returns a command line with the flags of the recipe that it names in front; without one as it is.

    Args:
      argv: the command line.
      parser: of the script, which knows `--recipe` too.
      folder: where the named recipes are.

    Raises:
      UserError: as `read_recipe`; or the recipe has a key that is no flag of the script.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--recipe")
    name = finder.parse_known_args(argv)[0].recipe
    if name is None:
        return list(argv)
    flags = read_recipe(name, folder).flags
    _, unknown = parser.parse_known_args(_arguments(flags))
    if unknown:
        raise UserError(f"a recipe's flags must be this script's, and --recipe {name} has {shown(unknown)}: mend it.")
    return [*_arguments(_without_rivals(flags, argv)), *argv]


def _without_rivals(flags: Mapping[str, Any], argv: Sequence[str]) -> dict[str, Any]:
    given = {argument.removeprefix("--").partition("=")[0] for argument in argv if argument.startswith("--")}
    replaced = {name for rivals in RIVALS if rivals & given for name in rivals}
    return {name: value for name, value in flags.items() if name not in replaced}


def _arguments(flags: Mapping[str, Any]) -> list[str]:
    """{"steps": 5, "document_mask": True, "jit_compile": False} -> --steps=5 --document_mask --no-jit_compile."""
    arguments = []
    for name, value in flags.items():
        if isinstance(value, bool):
            arguments.append(f"--{name}" if value else f"--no-{name}")
        elif isinstance(value, list):
            arguments += [f"--{name}", *map(str, value)]
        else:
            arguments.append(f"--{name}={value}")
    return arguments
