"""A checkpoint of ours as a SavedModel, which TensorFlow runs without this package and without Keras."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from absl import logging

from algpt2.checkpoints.folder import Checkpoint
from algpt2.checkpoints.save_load import load_model
from algpt2.data.tokenizer import Tokenizer
from algpt2.interchange.ways_out import DESCRIPTION
from algpt2.model.gpt import GPT
from algpt2.model.tensors import Tensor

BATCH = tf.TensorSpec((None, None), tf.int32, name="ids")


def write_saved_model(checkpoint: Checkpoint, folder: str) -> dict[str, Any]:
    """Writes a checkpoint's model as a SavedModel, with its tokenizer; returns what is worth telling of it.

    Args:
      checkpoint: what is written.
      folder: an empty folder on this machine.
    """
    model, tokenizer = load_model(checkpoint), Tokenizer.load(checkpoint.folder)
    graphs = Graphs(model)
    with without_progress():
        tf.saved_model.save(graphs, folder, signatures={"serving_default": graphs.logits})
    tokenizer.save(folder)
    config = model.config
    logits = f"ids int32 (batch, length up to {config.seq_len}) -> float32 (batch, length, {config.vocab_size})"
    description = "The checkpoint's model as graphs of TensorFlow, in float32."
    return {DESCRIPTION: description, "functions": {"logits": logits}}


class Graphs(tf.Module):
    """A model's parameters, and functions of any batch and length that a SavedModel holds as graphs.

    Example:

    >>> import numpy as np
    >>> import algpt2
    >>> from algpt2.interchange.to_saved_model import Graphs
    >>> graphs = Graphs(algpt2.GPT.from_preset("algpt2-tiny"))
    >>> graphs.logits(np.zeros((2, 5), "int32")).shape
    TensorShape([2, 5, 4096])
    """

    def __init__(self, model: GPT):
        """Makes the functions; a graph is made of each when it is called or saved.

        Args:
          model: whose parameters are read anew in each call.
        """
        super().__init__(name="algpt2")
        self.parameters = parameters_of(model)
        self.logits = tf.function(functools.partial(_logits, model), input_signature=[BATCH], autograph=False)


def parameters_of(model: GPT) -> list[tf.Variable]:
    """Returns what a model's graphs read. With the model itself, a file would hold layers that only Keras knows."""
    return [parameter.value for parameter in model.named_parameters().values()]


def _logits(model: GPT, ids: Tensor) -> Tensor:
    """Returns the logits of the token after each position, float32 (B, L, V)."""
    seq_len = model.config.seq_len
    fits = tf.debugging.assert_less_equal(tf.shape(ids)[1], seq_len, f"the model has {seq_len} positions")
    with tf.control_dependencies([fits]):
        return model(tf.identity(ids))


@contextlib.contextmanager
def without_progress() -> Iterator[None]:
    """Leaves out what TensorFlow logs while it saves, which tells a user nothing; `--verbosity 1` has it."""
    verbosity = logging.get_verbosity()
    if verbosity == logging.INFO:
        logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
