"""The model card of a converted checkpoint: `README.md` with the Hugging Face Hub's front matter.

It says what the checkpoint's files and the given evaluations say, and nothing else.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from algpt2 import storage
from algpt2.checkpoints.folder import CHECKPOINTS, STATE_NAME, Checkpoint
from algpt2.config.model import GPTConfig
from algpt2.config.model_files import load_config
from algpt2.errors import UserError, shown
from algpt2.interchange.ways_out import DESCRIPTION, WayOut
from algpt2.runs.folder import RunRecord, read_run
from algpt2.storage import json_files
from algpt2.text.tokenizer import EOS_TOKEN, Tokenizer

CARD_NAME = "README.md"
# By one of these an element of a list is known in a table; without one, it is by its number.
NAMING_KEYS = ("name", "protocol", "task", "domain")


class Evaluation(NamedTuple):
    """One of the JSON objects that a script of `eval/` printed, and the name of the file that it is in."""

    file_name: str
    result: dict[str, Any]


def read_evaluations(files: Sequence[str], checkpoint: Checkpoint) -> list[Evaluation]:
    """Returns the evaluations of a checkpoint.

    Args:
      files: each has the JSON object, or the list of them, that a script of `eval/` printed, on disk or gs://.
      checkpoint: what they must be of.

    Raises:
      UserError: a file has another content, or is of another checkpoint or of its averaged weights.
    """
    return [Evaluation(storage.base_name(file), result) for file in files for result in _results(file, checkpoint)]


def _results(file: str, checkpoint: Checkpoint) -> list[dict[str, Any]]:
    with json_files.refusing(file, "be what a script of eval/ printed", "make it again"):
        results = json_files.load_objects(file)
        if not all(isinstance(result.get("checkpoint"), str) for result in results):
            raise ValueError("it does not say of which checkpoint it is")
    for result in results:
        if _whole_path(result["checkpoint"]) != _whole_path(checkpoint.folder):
            raise UserError(
                f"--evaluation must be of the checkpoint that is converted, {checkpoint}, and {file} is of "
                f"{shown(result['checkpoint'])}: evaluate this one."
            )
        if result.get("ema"):
            raise UserError(
                "--evaluation must be of the weights that are converted, which are the last ones, and "
                f"{file} is of their moving average: evaluate without --ema."
            )
    return results


def model_card(
    checkpoint: Checkpoint, title: str, way: WayOut, facts: dict[str, Any], evaluations: Sequence[Evaluation]
) -> str:
    """Returns the text of a card.

    Args:
      checkpoint: what was converted.
      title: the card's heading.
      way: the form that it was written in.
      facts: what the form's function has returned.
      evaluations: of the checkpoint, from `read_evaluations`.
    """
    config, tokenizer = load_config(checkpoint.folder), Tokenizer.load(checkpoint.folder)
    sections = {
        "Use": ["```python", way.usage, "```", "", f"Texts begin with `{EOS_TOKEN}`, as in training."],
        "Model": table("of the model", {**config.to_dict(), "parameters": config.parameter_count()}),
        "Files": _files(facts),
        "Tokenizer": table("of the tokenizer", _tokenizer_facts(tokenizer)),
        "Training": _training(checkpoint),
    }
    if evaluations:
        sections["Evaluation"] = [line for one in evaluations for line in _evaluation(one)]
    lines = [*_front_matter(config, way), "", f"# {title}", "", _introduction(config)]
    for heading, content in sections.items():
        lines += ["", f"## {heading}", "", *content]
    return "\n".join(lines).rstrip() + "\n"


def table(heading: str, values: dict[str, Any]) -> list[str]:
    """Returns the lines of a Markdown table with a row for each scalar in `values`, nested ones under dotted names."""
    rows = [(name, _cell(value)) for name, value in scalars(values)]
    return [f"| {heading} | value |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)]


def scalars(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the dotted name and the value of every scalar in a JSON value, and of every empty list and object.

    >>> list(scalars({"a": 1, "b": [{"protocol": "hf", "c": 2.5}, {"c": None}]}))
    [('a', 1), ('b.hf.protocol', 'hf'), ('b.hf.c', 2.5), ('b.1.c', None)]
    """
    prefix = f"{name}." if name else ""
    if value and isinstance(value, dict):
        for key, item in value.items():
            yield from scalars(item, f"{prefix}{key}")
    elif value and isinstance(value, list):
        for index, item in enumerate(value):
            yield from scalars(item, f"{prefix}{_name_of(item, index)}")
    else:
        yield name, value


def _name_of(item: Any, index: int) -> str:
    names = [item[key] for key in NAMING_KEYS if isinstance(item, dict) and isinstance(item.get(key), str)]
    return names[0] if names else str(index)


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json_files.dumps(value)
    return " ".join(text.split()).replace("|", "\\|")


def _front_matter(config: GPTConfig, way: WayOut) -> list[str]:
    tags = ["gpt2", *(["algpt2"] if config.model_type == "algpt2" else [])]
    return ["---", f"library_name: {way.library}", "pipeline_tag: text-generation", "tags:", *_items(tags), "---"]


def _introduction(config: GPTConfig) -> str:
    shared = "one shared block for all layers" if config.n_block == 1 else "layers that share parameters"
    features = [shared] if config.shares_parameters else []
    features += ["factorized embeddings"] if config.embedding_size else []
    features += [name.replace("_", " ") for name in config.variants]
    kind = f"An ALGPT-2: a GPT-2 with {' and '.join(features)}" if features else "A GPT-2"
    return f"{kind}. These files were made of a checkpoint by ALGPT-2's `data_tools/convert_checkpoint.py`."


def _files(facts: dict[str, Any]) -> list[str]:
    figures = {name: value for name, value in facts.items() if name != DESCRIPTION}
    return [facts[DESCRIPTION], "", *table("of these files", figures)]


def _tokenizer_facts(tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "kind": "byte-level BPE, as GPT-2's",
        "ids": tokenizer.vocab_size,
        "end of text": EOS_TOKEN,
        "its id": tokenizer.eos_id,
        "sha256": tokenizer.sha256,
    }


def _evaluation(evaluation: Evaluation) -> list[str]:
    return [*table(f"of {evaluation.file_name}", evaluation.result), ""]


def _training(checkpoint: Checkpoint) -> list[str]:
    """Returns what `state.json` tells, and the run's history up to the checkpoint, if it lies in a run's folder."""
    state = json_files.parse_object(checkpoint.read_bytes(STATE_NAME))
    told = {name: value for name, value in state.items() if name not in ("files_sha256", "skips")}
    lines = table(f"of {STATE_NAME}", told)
    place = storage.parent(checkpoint.folder)
    record = read_run(storage.parent(place)) if storage.base_name(place) == CHECKPOINTS else None
    return [*lines, "", *_history(record, told["step"])] if record else lines


def _history(record: RunRecord, last_step: int) -> list[str]:
    """Returns how a run began and what was done to it up to a step."""
    weights = record.identity.initial_weights
    began = f"The run began with {f'the weights of `{weights}`' if weights else 'weights that were drawn'}"
    entries = [f"`{json.dumps(entry)}`" for entry in record.history if entry["step"] <= last_step]
    if not entries:
        return [f"{began}, and its settings were never changed."]
    return [f"{began}. What was done to it since, by step:", "", *_items(entries)]


def _items(texts: Iterable[str]) -> list[str]:
    return [f"- {text}" for text in texts]


def _whole_path(path: str) -> str:
    return storage.trim(path) if storage.is_remote(path) else os.path.realpath(path)
