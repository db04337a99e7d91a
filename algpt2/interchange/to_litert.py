"""A checkpoint of ours as a file of LiteRT (once TensorFlow Lite), which runs on telephones and small computers."""

from typing import Any

import tensorflow as tf

from algpt2 import storage
from algpt2.checkpoints.folder import Checkpoint
from algpt2.checkpoints.save_load import load_model
from algpt2.config.model import GPTConfig
from algpt2.config.model_files import load_config
from algpt2.errors import UserError
from algpt2.interchange.to_saved_model import parameters_of, without_progress
from algpt2.interchange.ways_out import DESCRIPTION, LITERT_NAME
from algpt2.text.tokenizer import Tokenizer

# The offsets inside a FlatBuffer, which the file is, are 32 bits.
MOST_BYTES = 2**31 - 1


def write_litert(checkpoint: Checkpoint, folder: str) -> dict[str, Any]:
    """Writes a checkpoint's model as a LiteRT file, with its tokenizer; returns what is worth telling of it.

    Args:
      checkpoint: what is written.
      folder: an empty folder on this machine.

    Raises:
      UserError: the model is too large for the format.
    """
    _require_fits(load_config(checkpoint.folder))
    model, tokenizer = load_model(checkpoint), Tokenizer.load(checkpoint.folder)
    length = model.config.seq_len
    spec = tf.TensorSpec((1, length), tf.int32, name="ids")
    logits = tf.function(model, input_signature=[spec], autograph=False).get_concrete_function()
    owner = tf.Module()
    owner.parameters = parameters_of(model)
    with without_progress():
        content = tf.lite.TFLiteConverter.from_concrete_functions([logits], owner).convert()
    storage.write_bytes(storage.join(folder, LITERT_NAME), content)
    tokenizer.save(folder)
    described = f"ids int32 (1, {length}) -> float32 (1, {length}, {model.config.vocab_size})"
    return {DESCRIPTION: "The checkpoint's model at a fixed length, in float32.", "functions": {"logits": described}}


def _require_fits(config: GPTConfig) -> None:
    needed = 4 * config.parameter_count()
    if needed > MOST_BYTES:
        raise UserError(
            f"a LiteRT file has at most {MOST_BYTES:,} bytes, and the parameters of this model are {needed:,}: use "
            "--to saved_model."
        )
