"""A checkpoint of ours as a preset of keras-hub: a folder that `keras_hub.models.CausalLM.from_preset` loads.

keras-hub reads Hugging Face's GPT-2, so the checkpoint is written as that first. Which of our tensors is which of
keras-hub's variables, and how a preset's files look, is left to keras-hub, as only it knows.
"""

import tempfile
from types import ModuleType
from typing import Any

from algpt2 import interrupts
from algpt2.checkpoints.folder import Checkpoint
from algpt2.config.model import GPTConfig
from algpt2.config.model_files import load_config
from algpt2.errors import UserError
from algpt2.interchange.to_huggingface import DESCRIPTIONS, write_huggingface
from algpt2.interchange.unrolling import require_no_variants
from algpt2.interchange.ways_out import DESCRIPTION
from algpt2.storage.local import TEMPORARY_PREFIX


def write_keras_hub(checkpoint: Checkpoint, folder: str) -> dict[str, Any]:
    """Writes a checkpoint as a `GPT2CausalLM` preset, with its tokenizer; returns what is worth telling of it.

    Args:
      checkpoint: what is written.
      folder: an empty folder on this machine.

    Raises:
      UserError: keras-hub is not installed, or has no such model.
    """
    config = load_config(checkpoint.folder)
    _require_form(config)
    models = _import_keras_hub().models
    plain = tempfile.mkdtemp(prefix=TEMPORARY_PREFIX)
    with interrupts.temporary(plain):
        write_huggingface(checkpoint, plain)
        backbone = models.GPT2Backbone.from_preset(plain, dtype="float32")
        tokenizer = models.GPT2Tokenizer.from_preset(plain)
    preprocessor = models.GPT2CausalLMPreprocessor(tokenizer, sequence_length=config.seq_len)
    models.GPT2CausalLM(backbone, preprocessor).save_to_preset(folder)
    return {DESCRIPTION: DESCRIPTIONS[config.model_type], "written_parameters": backbone.count_params()}


def _require_form(config: GPTConfig) -> None:
    require_no_variants(config)
    if config.embedding_size:
        raise UserError(
            "the head of a keras-hub GPT-2 is its token table, and that of a model with factorized embeddings is "
            "another matrix: use --to huggingface or --to saved_model."
        )
    if config.feed_forward_size != 4 * config.d_model:
        raise UserError(
            f"keras-hub reads a GPT-2 whose d_ff is 4 x d_model, received d_ff={config.feed_forward_size} and "
            f"d_model={config.d_model}: use --to huggingface or --to saved_model."
        )


def _import_keras_hub() -> ModuleType:
    try:
        import keras_hub
    except ImportError as error:
        raise UserError(
            f"--to keras_hub needs the package keras-hub, which cannot be imported ({error}): run "
            "`pip install -e '.[keras-hub]'` in an environment without the extras cpu, gpu and tpu."
        ) from error
    return keras_hub
