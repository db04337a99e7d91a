"""The training steps that are timed: each function takes (config, records) and returns one that trains for some steps.

All train with AdamW, weight decay 0.1, clipping at 1.0, float32 parameters and the dropout of the config, each step on
the same records. Each runs in a process of its own and imports only its own libraries.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from algpt2.config.model import GPTConfig

Train = Callable[[int], None]
LEARNING_RATE = 1e-4
WEIGHT_DECAY = 0.1
CLIP_NORM = 1.0


def ours(config: GPTConfig, records: np.ndarray, remat: str = "none") -> Train:
    """Trains by `TrainStep`, compiled by XLA, on one device."""
    import tensorflow as tf

    from algpt2.config.training import TrainConfig
    from algpt2.training.spikes import SkipState
    from algpt2.training.step import TrainStep, create_model

    train_config = TrainConfig(
        total_steps=10**6,
        batch_size=len(records),
        learning_rate=LEARNING_RATE,
        weight_decay=WEIGHT_DECAY,
        clip_norm=CLIP_NORM,
        remat=remat,
    )
    step = TrainStep(tf.distribute.get_strategy(), create_model(config, train_config), train_config)
    batches = iter(tf.data.Dataset.from_tensors(records).repeat())
    skips = SkipState.before_first_step(train_config)

    def train(n_steps: int) -> None:
        step(batches, 0, n_steps, skips)

    return train


def keras_hub(config: GPTConfig, records: np.ndarray) -> Train:
    """Trains keras-hub's GPT-2 by `fit`, compiled by XLA.

    Raises:
      ValueError: a config that it has no counterpart for.
    """
    import keras
    import keras_hub

    if config.model_type != "gpt2":
        raise ValueError("keras-hub has no GPT-2 with shared layers or factorized embeddings")
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=config.vocab_size,
        num_layers=config.n_layer,
        num_heads=config.n_head,
        hidden_dim=config.d_model,
        intermediate_dim=config.feed_forward_size,
        max_sequence_length=config.seq_len,
        dropout=config.dropout,
    )
    model = keras_hub.models.GPT2CausalLM(backbone=backbone, preprocessor=None)
    model.compile(
        optimizer=keras.optimizers.AdamW(LEARNING_RATE, weight_decay=WEIGHT_DECAY, global_clipnorm=CLIP_NORM),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=True,
    )

    def train(n_steps: int) -> None:
        rows = np.tile(records, (n_steps, 1))
        inputs = {"token_ids": rows[:, :-1], "padding_mask": np.ones_like(rows[:, :-1], bool)}
        model.fit(inputs, rows[:, 1:], batch_size=len(records), shuffle=False, verbose=0)

    return train


def torch(config: GPTConfig, records: np.ndarray, compiled: bool, bfloat16: bool) -> Train:
    """Trains a PyTorch model in the manner of nanoGPT: eager or compiled, in float32 or in bfloat16 autocast."""
    import torch

    from benchmarks.torch_gpt import TorchGPT

    torch.manual_seed(0)
    model = TorchGPT(config)
    forward = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
    rows = torch.from_numpy(records.astype(np.int64))
    inputs, targets = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()

    def train(n_steps: int) -> None:
        for _ in range(n_steps):
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                loss = forward(inputs, targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return train


def training(name: str, config: GPTConfig, batch_size: int) -> Train:
    """Returns the contender of this name, which trains on one batch of random records."""
    shape = (batch_size, config.seq_len + 1)
    return CONTENDERS[name](config, np.random.default_rng(0).integers(config.vocab_size, size=shape, dtype=np.int32))


CONTENDERS: dict[str, Callable[[GPTConfig, np.ndarray], Train]] = {
    "ours": ours,
    "ours_remat_block": partial(ours, remat="block"),
    "keras_hub": keras_hub,
    "torch_eager": partial(torch, compiled=False, bfloat16=False),
    "torch_compile": partial(torch, compiled=True, bfloat16=False),
    "torch_eager_bfloat16": partial(torch, compiled=False, bfloat16=True),
    "torch_compile_bfloat16": partial(torch, compiled=True, bfloat16=True),
}
