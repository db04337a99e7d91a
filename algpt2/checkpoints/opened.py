"""A checkpoint opened for evaluation: its model on the devices that will score, and its tokenizer."""

from typing import NamedTuple

import tensorflow as tf

from algpt2.checkpoints.folder import find_checkpoint
from algpt2.checkpoints.save_load import load_model
from algpt2.errors import UserError
from algpt2.model.gpt import GPT
from algpt2.text.tokenizer import Tokenizer


class OpenedCheckpoint(NamedTuple):
    """What an evaluation needs of a checkpoint.

    Attributes:
      folder: of the checkpoint that was found.
      model: made in the scope of a strategy, float32.
      tokenizer: the one that the model was trained with.
    """

    folder: str
    model: GPT
    tokenizer: Tokenizer


def open_checkpoint(
    path: str, ema: bool, strategy: tf.distribute.Strategy, seq_len: int | None = None
) -> OpenedCheckpoint:
    """Returns a checkpoint's model and tokenizer.

    Args:
      path: a checkpoint, or a run's folder, which means its newest intact one.
      ema: whether to take the moving average of the weights instead of the last ones.
      strategy: on whose replicas the model's parameters lie.
      seq_len: positions of windows and texts, if not those of training; the model must have ALiBi.

    Raises:
      UserError: there is no such checkpoint, a file of it is damaged, `ema` asks for an average or `seq_len` for
        positions that it does not have, or its tokenizer has ids that its model does not have.
    """
    checkpoint = find_checkpoint(path)
    with strategy.scope():
        model = load_model(checkpoint, ema=ema, seq_len=seq_len)
    tokenizer = Tokenizer.load(checkpoint.folder)
    if tokenizer.vocab_size > model.config.vocab_size:
        raise UserError(
            f"the tokenizer must be the one that the model was trained with, and that in {checkpoint.folder} has "
            f"{tokenizer.vocab_size} ids where the model has {model.config.vocab_size}: put its own one there."
        )
    return OpenedCheckpoint(checkpoint.folder, model, tokenizer)
