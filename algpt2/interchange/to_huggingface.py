"""A checkpoint of ours as a folder that Hugging Face transformers, and what else reads GPT-2s, loads."""

import json
import shutil
from typing import Any

from algpt2 import storage
from algpt2.checkpoints.folder import MODEL_NAME, Checkpoint
from algpt2.checkpoints.huggingface_config import config_json
from algpt2.checkpoints.tensor_files import read_tensors, write_tensors
from algpt2.config.model import GPTConfig
from algpt2.config.model_files import CONFIG_NAME, OWN_KEY, load_config
from algpt2.interchange.unrolling import plain_config, plain_parameters, require_no_variants
from algpt2.interchange.ways_out import DESCRIPTION
from algpt2.text.tokenizer import EOS_TOKEN, Tokenizer

DESCRIPTIONS = {
    "gpt2": "The checkpoint's GPT-2 as it is.",
    "algpt2": "The plain GPT-2 that computes the same as the checkpoint's ALGPT-2: its shared blocks are repeated, its "
    "factorized tables multiplied out.",
}


def write_huggingface(checkpoint: Checkpoint, folder: str) -> dict[str, Any]:
    """Writes a checkpoint as a plain GPT-2 of Hugging Face, with its tokenizer; returns what is worth telling of it.

    A GPT-2's tensors are those of the checkpoint, bit for bit. An ALGPT-2 becomes the GPT-2 that computes the same.

    Args:
      checkpoint: what is written.
      folder: an empty folder on this machine.

    Raises:
      UserError: no GPT-2 computes the same.
    """
    config, tokenizer = load_config(checkpoint.folder), Tokenizer.load(checkpoint.folder)
    require_no_variants(config)
    model_file, source = storage.join(folder, MODEL_NAME), checkpoint.local_file(MODEL_NAME)
    if config.model_type == "gpt2":
        with open(source, "rb") as stream, open(model_file, "wb") as copy:
            shutil.copyfileobj(stream, copy)  # `shutil.copyfile` would name a full disk by the source
    else:
        write_tensors(model_file, plain_parameters(config, read_tensors(source)))
    tokenizer.save(folder)
    for name, fields in _descriptions(config, tokenizer.eos_id).items():
        storage.write_text(storage.join(folder, name), json.dumps(fields, indent=2) + "\n")
    return {DESCRIPTION: DESCRIPTIONS[config.model_type], "written_parameters": _written_parameters(config)}


def _descriptions(config: GPTConfig, eos_id: int) -> dict[str, dict[str, Any]]:
    """Returns the content of the JSON files that transformers reads beside the weights and the vocabulary."""
    fields = config_json(plain_config(config), eos_id) | {"torch_dtype": "float32"}
    del fields[OWN_KEY]  # The folder is no checkpoint of ours, and its model may be another than ours.
    fields["tie_word_embeddings"] = not config.embedding_size
    special_ids = {"bos_token_id": eos_id, "eos_token_id": eos_id}
    special_tokens = {"bos_token": EOS_TOKEN, "eos_token": EOS_TOKEN, "unk_token": EOS_TOKEN}
    tokenizer_fields = {
        **{"tokenizer_class": "GPT2Tokenizer", **special_tokens, "add_prefix_space": False},
        **{"clean_up_tokenization_spaces": False, "model_max_length": config.seq_len},
    }
    return {
        CONFIG_NAME: fields,
        "generation_config.json": special_ids,
        "tokenizer_config.json": tokenizer_fields,
    }


def _written_parameters(config: GPTConfig) -> int:
    """Returns the number of parameters of the GPT-2 that is written, its head counted if it is not tied."""
    untied_head = config.vocab_size * config.d_model if config.embedding_size else 0
    return plain_config(config).parameter_count() + untied_head
