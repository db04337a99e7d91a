"""Checkpoints with a tokenizer, and Hugging Face's GPT-2s, for the tests of what becomes of one in the other's form."""

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
from safetensors import numpy as safetensors
from tiny_models import ALGPT2_CONFIG, GPT2_CONFIG, randomised

from algpt2.checkpoints.folder import CheckpointState
from algpt2.checkpoints.save_load import Snapshot, save_checkpoint
from algpt2.config.model import GPTConfig
from algpt2.interchange.convert import convert
from algpt2.text.tokenizer import Tokenizer

TEXT = "the cat sat on the mat, and the dog sat on the log: caf\u00e9 \u4f60\u597d"
SIZES = {"vocab_size": 275, "seq_len": 12, "n_head": 3, "d_model": 18, "d_ff": 20, "n_layer": 3}
GPT2 = dataclasses.replace(GPT2_CONFIG, **SIZES)
ALGPT2 = dataclasses.replace(ALGPT2_CONFIG, **SIZES)


@functools.cache
def tiny_tokenizer() -> Tokenizer:
    """A tokenizer of 270 ids."""
    tokenizer = Tokenizer.train([TEXT] * 9, 270)
    assert tokenizer.vocab_size == 270
    return tokenizer


def save_randomised(folder, config: GPTConfig = GPT2, step=7):
    """Writes a checkpoint whose parameters are all random; returns the model."""
    model = randomised(config)
    parameters = {name: np.array(parameter) for name, parameter in model.named_parameters().items()}
    state = CheckpointState(step, 10 * step, {}, "abc", 1)
    save_checkpoint(str(folder), Snapshot(config, parameters, {}), state, tiny_tokenizer().to_json().encode())
    return model


def write_huggingface_gpt2(folder, config: GPTConfig = GPT2) -> dict[str, np.ndarray]:
    """Writes a Hugging Face folder of a random GPT-2, by way of ours; returns its tensors."""
    save_randomised(Path(folder).with_name("ours"), config)
    convert(str(Path(folder).with_name("ours")), str(folder), "huggingface")
    return safetensors.load_file(Path(folder) / "model.safetensors")


def read_json(*path):
    return json.loads(Path(*path).read_text())


def random_ids(config: GPTConfig, batch=3, length=None):
    length = length or config.seq_len
    return np.random.default_rng(1).integers(config.vocab_size, size=(batch, length)).astype("int32")
