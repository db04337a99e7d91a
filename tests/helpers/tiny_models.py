"""Configurations of models that are made, trained and compiled within moments."""

import dataclasses

from algpt2.config.model import GPTConfig

GPT2_CONFIG = GPTConfig(vocab_size=64, seq_len=16, n_layer=2, n_head=2, d_model=32, dropout=0.0)
ALGPT2_CONFIG = dataclasses.replace(GPT2_CONFIG, embedding_size=8, share_layers=True)
