"""Write the pages of docs/reference from the code: every flag of every script, every preset, and every recipe.

With --check nothing is written, and the exit status is 2 if a page does not say what the code says.
"""

from algpt2 import interrupts

if __name__ == "__main__":
    interrupts.begin()

import argparse
import dataclasses
import json
import re
import runpy
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from algpt2 import cli
from algpt2.config.model import GPTConfig, preset_names
from algpt2.config.training import TrainConfig
from algpt2.devices.chips import GIB
from algpt2.devices.tpu_pods import pod_named
from algpt2.errors import UserError
from algpt2.model.sizes import training_flops_per_token
from algpt2.preflight.memory_estimate import checkpoint_bytes, optimizer_state_bytes
from algpt2.runs.recipes import Recipe, read_recipe, recipe_names, step_of

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
RECIPES = str(REPOSITORY / "recipes")
# In the order in which a newcomer meets them.
FOLDERS_OF_SCRIPTS = ("data_tools", ".", "eval", "ablations", "benchmarks", "docs/reference")
MADE_BY = "<!-- Made by `python docs/reference/generate.py`: edit the code, not this page. -->"
FLAGS_INTRODUCTION = """\
Every flag of every script, as its `--help` prints them. The guides say what they are for:
[data](../guide/data.md), [training](../guide/training.md), [fine-tuning](../guide/fine-tuning.md),
[resuming](../guide/resuming.md), [TPU](../guide/tpu.md), [evaluation](../guide/evaluation.md),
[zero-shot](../guide/zero-shot.md), [generation](../guide/generation.md),
[interchange](../guide/interchange.md), [Keras](../guide/keras.md), [studies](../guide/studies.md).

Every script also knows `--help` and absl's own flags, of which `--verbosity` is the useful one
(`--helpfull` lists them). A group of flags that has the name of a class is that dataclass of
`algpt2/config/`. A "-" stands where a flag has no default: what it asks for is then left out.
"""
PRESETS_INTRODUCTION = """\
The models that `--config_path` takes by name. Each is a JSON file in `algpt2/config/presets/`;
fields that a file leaves out have the default of `GPTConfig` in `algpt2/config/model.py`.
"""
SIZES_INTRODUCTION = """\
A shared block's parameters count once. A checkpoint's bytes are those of its tensors: the
parameters and AdamW's two moments, in float32. The FLOPs are those of one token's forward and
backward pass at the preset's own `seq_len`, by the formula of `training_flops_per_token`
(`algpt2/model/sizes.py`): sharing saves memory and no arithmetic.
"""

RECIPES_INTRODUCTION = """\
Published training runs as one command each: the files of `recipes/`, which
`train_tfrecords.py --recipe NAME` takes by name. Its flags stand in front of those on the command
line, which win. `--dry_run` prints what results, and `--rehearse POD` compiles its step for a TPU
that is not there.

```
python train_tfrecords.py --recipe gpt2-fineweb-edu --train_path gs://bucket/records \\
    --val_path gs://bucket/records --model_dir gs://bucket/gpt2-fineweb-edu --tpu local
```

**No recipe was run at its size here**: nobody has a TPU. A test plans each one and holds its number
of parameters and tokens against the source's. The optimizer's state is that of one replica of the
pod, by arithmetic; where it is shared out, it is a part of all of it.

For the last two columns one core's step was compiled by the TPU's compiler on a machine without a
TPU (`python -m benchmarks.recipes --recipes algpt2-2020`): the peak of its memory, and the hours of
all steps at the roofline, an estimate without input, validation and checkpoints. Where the hours
are "-" the records decide how many steps there are.
"""


def main(argv: Sequence[str]) -> int:
    """Writes the pages that the code has outrun, or with --check refuses them, and prints their names."""
    arguments = parse(argv)
    folder = Path(arguments.folder)
    pages = {
        folder / "flags.md": flags_page(parsers_of_scripts()),
        folder / "presets.md": presets_page(),
        folder / "recipes.md": recipes_page(),
    }
    stale = [path for path, text in pages.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if arguments.check and stale:
        names = ", ".join(path.name for path in stale)
        raise UserError(
            f"the reference must say what the code says, and in {folder} {names} does not: run "
            "`python docs/reference/generate.py` and commit what it writes."
        )
    for path in stale:
        path.write_text(pages[path], encoding="utf-8")
    cli.print_json({"written": [str(path) for path in stale]})
    return cli.EXIT_OK


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    return build_parser().parse_args(argv)


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of this script's flags."""
    parser = cli.argument_parser(__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 2 if a page is out of date")
    parser.add_argument("--folder", metavar="DIR", default="docs/reference", help="where the pages are")
    return parser


def parsers_of_scripts() -> dict[str, argparse.ArgumentParser]:
    """Returns the parser of every script by the script's path, such as 'data_tools/report.py'."""
    if str(REPOSITORY) not in sys.path:
        sys.path.append(str(REPOSITORY))  # the benchmarks import each other by the name of their folder
    files = [file for folder in FOLDERS_OF_SCRIPTS for file in sorted((REPOSITORY / folder).glob("*.py"))]
    scripts = [file for file in files if "\n    cli.run(main)\n" in file.read_text(encoding="utf-8")]
    return {str(file.relative_to(REPOSITORY)): runpy.run_path(str(file))["build_parser"]() for file in scripts}


def flags_page(parsers: dict[str, argparse.ArgumentParser]) -> str:
    """Returns the page of all flags: a section for each script, a table for each group of its flags."""
    parts = [MADE_BY, "# Flags", FLAGS_INTRODUCTION]
    parts += ["\n".join(f"- [{script}](#{_anchor(script)})" for script in parsers)]
    for script, parser in parsers.items():
        parts += [f"## {script}", *_paragraphs(parser.description)]
        for title, actions in _groups(parser):
            parts += [f"### {title}"] if title else []
            rows = [_row(script, action, _rivals(parser, action)) for action in actions]
            parts.append(_table(("flag", "value", "default", "what it says"), rows))
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def presets_page() -> str:
    """Returns the page of all presets: their fields, and what follows from these by arithmetic."""
    configs = {name: GPTConfig.from_preset(name) for name in preset_names()}
    fields = [field.name for field in dataclasses.fields(GPTConfig)]
    shapes = [(name, *(_value(getattr(config, field)) for field in fields)) for name, config in configs.items()]
    sizes = [
        (name, config.parameter_count(), checkpoint_bytes(config, TrainConfig(1)), training_flops_per_token(config))
        for name, config in configs.items()
    ]
    parts = [
        *(MADE_BY, "# Presets", PRESETS_INTRODUCTION),
        *("## Fields", _table(("preset", *(f"`{field}`" for field in fields)), shapes)),
        "A `d_ff` of - is 4 x `d_model`; an `embedding_size` of - is a table of width `d_model`.",
        *("## Sizes", SIZES_INTRODUCTION),
        _table(
            ("preset", "parameters", "bytes of a checkpoint", "FLOPs per token"),
            [(name, *(f"{number:,}" for number in numbers)) for name, *numbers in sizes],
        ),
    ]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def recipes_page() -> str:
    """Returns the page of all recipes: what they come to, and what is known of each."""
    recipes = {name: read_recipe(name, RECIPES) for name in recipe_names(RECIPES)}
    head = (
        "recipe",
        "model",
        "parameters",
        "batch",
        "row",
        "tokens",
        "pod",
        "optimizer state, MiB",
        "peak, GiB",
        "hours",
    )
    rehearsed = json.loads((HERE / "recipes.json").read_text(encoding="utf-8"))
    parts = [
        *(MADE_BY, "# Recipes", RECIPES_INTRODUCTION),
        _table(head, [_recipe_row(name, recipe, rehearsed) for name, recipe in recipes.items()]),
    ]
    for name, recipe in recipes.items():
        facts = (("Source", recipe.source), ("Data", recipe.data), ("Published", recipe.published))
        facts += (("What differs", recipe.differs),)
        parts += [f"## {name}", *(f"**{title}.** {text}" for title, text in facts)]
        parts += ["```\n" + "\n".join(f"{flag} = {value}" for flag, value in recipe.flags.items()) + "\n```"]
    return "\n\n".join(_wrapped(part) for part in parts) + "\n"


def _recipe_row(name: str, recipe: Recipe, rehearsed: dict[str, Any]) -> tuple[object, ...]:
    model, config = step_of(recipe)
    row_tokens, batch = model.seq_len, config.batch_size
    is_in_steps = "steps" in recipe.flags
    tokens = (
        f"{config.total_steps * batch * row_tokens / 1e9:.2f}e9"
        if is_in_steps
        else f"{recipe.flags['epochs']:g} epochs"
    )
    state = _optimizer_state(model, config, pod_named(recipe.pod).n_replicas)
    shape = (recipe.flags["config_path"], f"{model.parameter_count():,}", batch, row_tokens, tokens, recipe.pod)
    return name, *shape, state, *_rehearsed_cells(rehearsed.get(name))


def _optimizer_state(model: GPTConfig, config: TrainConfig, n_replicas: int) -> str:
    """Returns the MiB of one replica's optimizer state, and those of all of it where it is shared out."""
    whole = f"{optimizer_state_bytes(model, config) / 2**20:,.1f}"
    if not config.shard_optimizer_state:
        return whole
    return f"{optimizer_state_bytes(model, config, n_replicas) / 2**20:,.1f} of {whole}"


def _rehearsed_cells(row: dict[str, Any] | None) -> tuple[str, str]:
    """Returns the GiB that a core takes at its peak, and the hours at the roofline; "-" where nobody knows."""
    if row is None:
        return "-", "-"
    verdict = "" if row["fits"] else ": does not fit"
    peak = f"{row['peak_hbm_bytes'] / GIB:.2f} of {row['hbm_bytes'] / GIB:.0f}{verdict}"
    return peak, "-" if row["hours_at_roofline"] is None else f"{row['hours_at_roofline']:,.1f}"


def _wrapped(part: str) -> str:
    """Breaks the lines of a paragraph of one line, so that they fit a document."""
    text = part.strip("\n")
    return text if "\n" in text or text.startswith(("|", "#", "<")) else _filled(text)


def _filled(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 98, break_on_hyphens=False, break_long_words=False))


def _groups(parser: argparse.ArgumentParser) -> Iterator[tuple[str, list[argparse.Action]]]:
    """Yields a title and the flags of each group that has some, the untitled first. argparse lists them nowhere else
    than in attributes with a leading underscore, whose names have not changed since Python 2.7.
    """
    for group in parser._action_groups:
        actions = [
            action
            for action in group._group_actions
            if action.help is not argparse.SUPPRESS and not {"--help", "--helpfull"} & set(action.option_strings)
        ]
        if actions:
            yield "" if group.title in ("options", "positional arguments") else group.title, actions


def _rivals(parser: argparse.ArgumentParser, action: argparse.Action) -> list[str]:
    """Returns the flags that cannot be given beside this one."""
    groups = [group._group_actions for group in parser._mutually_exclusive_groups if action in group._group_actions]
    return [other.option_strings[0] for group in groups for other in group if other is not action]


def _row(script: str, action: argparse.Action, rivals: list[str]) -> tuple[str, ...]:
    text = (action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%")
    if not text:
        raise UserError(f"every flag must have a help text, and {script} has none for {_name(action)}: write one.")
    told = re.search(r" \(default: (.*)\)$", text)
    text = text[: told.start()] if told else text
    text += f" (not together with {', '.join(f'`{rival}`' for rival in rivals)})" if rivals else ""
    return _name(action), _takes(action), _default(script, action, told[1] if told else None), text


def _name(action: argparse.Action) -> str:
    return ", ".join(f"`{one}`" for one in action.option_strings) or f"`{action.metavar or action.dest}`"


def _takes(action: argparse.Action) -> str:
    """What stands behind a flag on the command line; nothing behind a switch."""
    if action.nargs == 0:
        return ""
    kind = getattr(action.type, "__name__", "text").replace("str", "text").replace("int", "whole number")
    one = ", ".join(map(str, action.choices)) if action.choices else action.metavar or kind.replace("float", "number")
    return f"{one} ..." if action.nargs in ("+", "*") else one


def _default(script: str, action: argparse.Action, told: str | None) -> str:
    """The default that holds; one that the help text tells must be it."""
    holds = action.default
    if holds is None or holds == argparse.SUPPRESS or holds in ("", []):
        return {"True": "on", "False": "off"}.get(told, told) or ("required" if action.required else "-")
    if isinstance(holds, bool):
        return "on" if holds else "off"
    shown = " ".join(map(str, holds)) if isinstance(holds, list) else str(holds)
    if told not in (None, shown):
        raise UserError(
            f"a help text must tell the default that holds, and that of {_name(action)} of {script} tells {told} "
            f"where {shown} holds: mend it."
        )
    return shown


def _value(field: object) -> str:
    if isinstance(field, bool):
        return "yes" if field else "no"
    return "-" if field is None else str(field)


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def _paragraphs(text: str | None) -> list[str]:
    """The paragraphs of a script's docstring, in lines short enough for a document."""
    return [_filled(" ".join(part.split())) for part in (text or "").split("\n\n")]


def _anchor(heading: str) -> str:
    """How GitHub names the anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


if __name__ == "__main__":
    cli.run(main)
