"""A folder of Hugging Face's GPT-2 as a checkpoint of ours."""

import json
import re
from collections import Counter
from typing import Any

import numpy as np
from absl import logging

from algpt2 import storage
from algpt2.checkpoints.folder import MODEL_NAME, commit
from algpt2.checkpoints.huggingface_config import config_json
from algpt2.checkpoints.tensor_files import write_tensors
from algpt2.config.model import GPTConfig
from algpt2.config.model_files import CONFIG_NAME, OWN_KEY, config_from_huggingface
from algpt2.errors import UserError, shown
from algpt2.interchange.stored_tensors import FLOATING, StoredTensor, find_tensors
from algpt2.interchange.unrolling import HEAD_NAME, PREFIX
from algpt2.model.sizes import parameter_shapes
from algpt2.storage import json_files
from algpt2.text.tokenizer import Tokenizer
from algpt2.text.tokenizer_files import EOS_TOKEN, TOKENIZER_NAME, VOCAB_AND_MERGES_NAMES

TABLE_NAME = "wte.weight"
# Older versions of transformers saved the causal mask with the weights.
MASK = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")

StoredTensors = dict[str, StoredTensor]


def write_checkpoint(source: str, folder: str) -> dict[str, Any]:
    """Writes a Hugging Face GPT-2 as a committed checkpoint without optimizer state; returns what is worth telling.

    Args:
      source: the folder with `config.json`, safetensors and tokenizer files, local or gs://.
      folder: an empty folder on this machine.

    Raises:
      UserError: another architecture, an option that our model lacks, tensors that are missing, too many, of another
        shape or damaged, or no tokenizer of GPT-2's kind.
    """
    config = read_config(source)
    tokenizer = read_tokenizer(source, config)
    copies = storage.LocalCopies()
    stored = find_tensors(source, copies)
    parameters = read_parameters(source, stored, config)
    contents = {
        CONFIG_NAME: json.dumps(config_json(config, tokenizer.eos_id), indent=2) + "\n",
        TOKENIZER_NAME: tokenizer.to_json(),
    }
    hashes = {name: storage.write_hashed(storage.join(folder, name), text.encode()) for name, text in contents.items()}
    hashes[MODEL_NAME] = write_tensors(storage.join(folder, MODEL_NAME), parameters)
    origin = {"folder": source, "files_sha256": _source_sha256(stored)}
    commit(folder, {"imported": origin, "files_sha256": hashes})
    return {"parameters": config.parameter_count(), "tokenizer_sha256": tokenizer.sha256}


def read_config(source: str) -> GPTConfig:
    """Returns the configuration of a folder; raises `UserError` if our model is not the one that it describes."""
    path = storage.join(source, CONFIG_NAME)
    with json_files.refusing(path, "describe a GPT-2 as ours is", "no checkpoint can be made of it"):
        fields = json_files.load_object(path)
        if (model_type := fields.get("model_type")) != "gpt2":
            raise ValueError(f'its model_type is {shown(model_type)}, not "gpt2"')
        fields.pop(OWN_KEY, None)  # A GPT-2 of ours that was taken for what it says to transformers.
        return config_from_huggingface(fields, path)


def read_tokenizer(source: str, config: GPTConfig) -> Tokenizer:
    """Returns a folder's tokenizer; raises `UserError` if there is none of GPT-2's kind, or one of another model."""
    names = [TOKENIZER_NAME, *(name for pair in VOCAB_AND_MERGES_NAMES for name in pair)]
    if not any(storage.exists(storage.join(source, name)) for name in names):
        raise UserError(
            f"the model's tokenizer must be beside it, as {TOKENIZER_NAME} or vocab.json and merges.txt, and {source} "
            "has none: copy it there."
        )
    with json_files.refusing(source, "hold a tokenizer of GPT-2's kind", "copy the model's own"):
        tokenizer = Tokenizer.load(source)
    if tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"a model must have a row for each id of its tokenizer, and {source} has {config.vocab_size} rows for "
            f"{tokenizer.vocab_size} ids: copy the tokenizer that belongs to it."
        )
    eos_id = json_files.load_object(storage.join(source, CONFIG_NAME)).get("eos_token_id")
    # GPT-2's id stays in the configuration of many a model that has fewer ids, where it says nothing.
    if isinstance(eos_id, int) and eos_id < config.vocab_size and eos_id != tokenizer.eos_id:
        raise UserError(
            f"a model's eos_token_id must be the tokenizer's {EOS_TOKEN}, and in {source} it is {eos_id} for "
            f"{tokenizer.eos_id}: copy the tokenizer that belongs to it."
        )
    return tokenizer


def read_parameters(source: str, stored: StoredTensors, config: GPTConfig) -> dict[str, np.ndarray]:
    """Returns the float32 parameters of a model by our names.

    Args:
      source: the folder, for messages.
      stored: its tensors, as `find_tensors` has found them.
      config: of the model.

    Raises:
      UserError: names or shapes are not those of the model, a tensor is damaged, or the head is not tied.
    """
    named = own_names(source, stored)
    head = named.pop(HEAD_NAME, None)
    shapes = parameter_shapes(config)
    _require_names(source, named.keys(), shapes.keys())
    for name, shape in shapes.items():
        if named[name].shape != shape:
            raise UserError(
                f"{name} must have the shape {shape} that {CONFIG_NAME} tells, and in {source} it has "
                f"{named[name].shape}: the files do not belong together, so copy the folder again."
            )
    parameters = {name: named[name].read() for name in shapes}
    if head is not None and not np.array_equal(head.read(), parameters[TABLE_NAME]):
        raise UserError(
            f"the head must be tied to the token table, as GPT-2's, and in {source} {HEAD_NAME} differs from "
            f"{TABLE_NAME}: no checkpoint can be made of it."
        )
    _tell_conversions([named[name] for name in shapes])
    return parameters


def own_names(source: str, stored: StoredTensors) -> StoredTensors:
    """Returns tensors by their names in our checkpoints, and the head's, without the causal masks of old files."""
    named: StoredTensors = {}
    for name, tensor in stored.items():
        own_name = name.removeprefix(PREFIX)
        if own_name in named:
            raise UserError(
                f"a tensor must be there once, and {source} has {own_name} and {PREFIX}{own_name}: mend it."
            )
        if not MASK.fullmatch(own_name):
            named[own_name] = tensor
    return named


def _require_names(source: str, found: Any, wanted: Any) -> None:
    for some, fault in ((wanted - found, "lacks"), (found - wanted, "has besides")):
        if some:
            raise UserError(
                f"the tensors must be those of the GPT-2 that {CONFIG_NAME} describes, and {source} {fault} "
                f"{', '.join(sorted(some)[:5])}{' and more' if len(some) > 5 else ''}: copy the folder again, or "
                "convert a plain GPT2LMHeadModel."
            )


def _tell_conversions(tensors: list[StoredTensor]) -> None:
    for dtype, count in sorted(Counter(tensor.dtype for tensor in tensors).items()):
        if dtype != "F32":
            logging.info("%d of %d tensors are %s and become float32", count, len(tensors), FLOATING[dtype])


def _source_sha256(stored: StoredTensors) -> dict[str, str]:
    files = {tensor.path: tensor.local_file for tensor in stored.values()}
    return {storage.base_name(path): storage.file_sha256(file) for path, file in sorted(files.items())}
