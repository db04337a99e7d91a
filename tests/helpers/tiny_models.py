"""Configurations of models that are made, trained and compiled within moments."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from algpt2.config.model import GPTConfig

if TYPE_CHECKING:
    from algpt2.model.gpt import GPT

GPT2_CONFIG = GPTConfig(vocab_size=64, seq_len=16, n_layer=2, n_head=2, d_model=32, dropout=0.0)
ALGPT2_CONFIG = dataclasses.replace(GPT2_CONFIG, embedding_size=8, share_layers=True)


def randomised(config: GPTConfig, **options) -> "GPT":
    """A model whose every parameter, biases and layer norms too, is random: nothing hides behind a 0 or a 1."""
    from algpt2.model.gpt import GPT  # once TensorFlow's wheel is checked and the devices are set

    model, rng = GPT(config, **options), np.random.default_rng(7)
    for parameter in model.named_parameters().values():
        parameter.assign(rng.normal(scale=0.3, size=parameter.shape))
    return model
