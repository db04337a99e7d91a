"""From a folder to a folder: the input says which way it goes."""

from collections.abc import Sequence
from typing import Any

from algpt2 import storage
from algpt2.checkpoints.folder import CHECKPOINTS, MARKER_NAME, find_checkpoint
from algpt2.config.model_files import CONFIG_NAME, load_config
from algpt2.errors import UserError
from algpt2.interchange.from_huggingface import write_checkpoint
from algpt2.interchange.model_card import CARD_NAME, model_card, read_evaluations
from algpt2.interchange.ways_out import WAYS_OUT


def convert(source: str, output: str, to: str | None = None, evaluations: Sequence[str] = ()) -> dict[str, Any]:
    """Writes a checkpoint of ours in another form, or a Hugging Face GPT-2 as a checkpoint of ours; returns its facts.

    Args:
      source: a committed checkpoint, a `--model_dir`, which means its newest, or a folder of Hugging Face's GPT-2, on
        disk or gs://.
      output: a new or empty folder, on disk or gs://.
      to: a key of `WAYS_OUT` if `source` is ours, else None.
      evaluations: files of figures for the model card, if `source` is ours: what scripts of `eval/` printed of it.

    Raises:
      UserError: `source` is neither, `to` does not fit it, the output holds something, or the model has no such form.
    """
    if is_own(source):
        return _convert_out(source, output, to, evaluations)
    if not storage.exists(storage.join(source, CONFIG_NAME)):
        raise UserError(
            f"--input must be a checkpoint, a --model_dir or a folder of Hugging Face's GPT-2, and {source} has none "
            f"of {MARKER_NAME}, {CHECKPOINTS} and {CONFIG_NAME}: name another."
        )
    for flag, is_given in {"--to": to is not None, "--evaluation": bool(evaluations)}.items():
        if is_given:
            raise UserError(
                f"{flag} is for a checkpoint of ours, and {source} has no {MARKER_NAME}, so it is read as Hugging "
                f"Face's GPT-2: leave {flag} out."
            )
    with storage.writing_folder(output, MARKER_NAME) as folder:
        facts = write_checkpoint(source, folder)
    return {"input": source, "output": output, "from": "huggingface", **facts}


def is_own(folder: str) -> bool:
    """Returns whether a folder is a committed checkpoint or has a run's `checkpoints`."""
    return any(storage.exists(storage.join(folder, name)) for name in (MARKER_NAME, CHECKPOINTS))


def _convert_out(source: str, output: str, to: str | None, evaluation_files: Sequence[str]) -> dict[str, Any]:
    if to is None:
        raise UserError(f"--to must say the form of a checkpoint's output, {' or '.join(WAYS_OUT)}: add it.")
    checkpoint, way = find_checkpoint(source), WAYS_OUT[to]
    evaluations = read_evaluations(evaluation_files, checkpoint)
    with storage.writing_folder(output, way.marker) as folder:
        facts = way.write(checkpoint, folder)
        card = model_card(checkpoint, storage.base_name(output), way, facts, evaluations)
        storage.write_text(storage.join(folder, CARD_NAME), card)
    parameters = load_config(checkpoint.folder).parameter_count()
    return {"input": checkpoint.folder, "output": output, "to": to, "parameters": parameters, **facts}
