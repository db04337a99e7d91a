"""A checkpoint of ours as a SavedModel, which TensorFlow runs without this package and without Keras."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import tensorflow as tf
from absl import logging

from algpt2.checkpoints.folder import Checkpoint
from algpt2.checkpoints.save_load import load_model
from algpt2.devices.compilation import graph_function
from algpt2.evaluation.decoding import Drawing, continue_prompts
from algpt2.evaluation.sampling import GivenSampling
from algpt2.interchange.ways_out import DESCRIPTION
from algpt2.model.gpt import GPT
from algpt2.model.tensors import Tensor
from algpt2.text.tokenizer import Tokenizer

IDS = tf.TensorSpec((None, None), tf.int32, name="ids")


class Choices(NamedTuple):
    """What `generate` takes beside the ids.

    Attributes:
      lengths: int32 (B,), of the prompts, each of which begins in its row's first column.
      max_new_tokens: int32 ().
      temperature: float32 (); 0 always takes the likeliest token.
      top_k: int32 (); 0 is off.
      top_p: float32 (); 1 is off.
      seed: int32 ().
    """

    lengths: Tensor
    max_new_tokens: Tensor
    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    seed: Tensor


def write_saved_model(checkpoint: Checkpoint, folder: str) -> dict[str, Any]:
    """Writes a checkpoint's model as a SavedModel, with its tokenizer; returns what is worth telling of it.

    Args:
      checkpoint: what is written.
      folder: an empty folder on this machine.
    """
    model, tokenizer = load_model(checkpoint), Tokenizer.load(checkpoint.folder)
    graphs = Graphs(model, tokenizer.eos_id)
    with without_progress():
        tf.saved_model.save(graphs, folder, signatures={"serving_default": graphs.logits, "generate": graphs.generate})
    tokenizer.save(folder)
    config = model.config
    ids = f"ids int32 (batch, length up to {config.seq_len})"
    functions = {
        "logits": f"{ids} -> float32 (batch, length, {config.vocab_size})",
        "generate": f"{ids}, lengths int32 (batch,), max_new_tokens int32, temperature float32, top_k int32, top_p "
        f"float32, seed int32 -> int32 (batch, max_new_tokens), id {tokenizer.eos_id} from where a text ends",
    }
    return {DESCRIPTION: "The checkpoint's model as graphs of TensorFlow, in float32.", "functions": functions}


class Graphs(tf.Module):
    """A model's parameters, and functions of any batch and length that a SavedModel holds as graphs.

    Example:

    >>> import numpy as np
    >>> import algpt2
    >>> from algpt2.interchange.to_saved_model import Graphs
    >>> graphs = Graphs(algpt2.GPT.from_preset("algpt2-tiny"), eos_id=4095)
    >>> ids = np.zeros((2, 5), "int32")
    >>> graphs.logits(ids).shape
    TensorShape([2, 5, 4096])
    >>> graphs.generate(ids, [5, 3], 7, 0.8, 40, 0.9, 1).shape
    TensorShape([2, 7])
    """

    def __init__(self, model: GPT, eos_id: int):
        """Makes the functions; a graph is made of each when it is called or saved.

        Args:
          model: whose parameters are read anew in each call.
          eos_id: of its tokenizer, at which a text ends.
        """
        super().__init__(name="algpt2")
        self.parameters = parameters_of(model)
        self.logits = tf.function(functools.partial(_logits, model), input_signature=[IDS], autograph=False)
        lengths, whole, number = ((None,), tf.int32), ((), tf.int32), ((), tf.float32)
        kinds = Choices(lengths, whole, number, whole, number, whole)
        choices = [tf.TensorSpec(*kind, name=name) for name, kind in kinds._asdict().items()]
        # Compiled apart, for each batch size, because what XLA compiles has shapes that are known.
        continued = graph_function(functools.partial(_continued, model, eos_id))
        generate = functools.partial(_generate, model.config.seq_len, continued)
        self.generate = tf.function(generate, input_signature=[IDS, *choices], autograph=False)


def parameters_of(model: GPT) -> list[tf.Variable]:
    """Returns what a model's graphs read. With the model itself, a file would hold layers that only Keras knows."""
    return [parameter.value for parameter in model.named_parameters().values()]


def _logits(model: GPT, ids: Tensor) -> Tensor:
    """Returns the logits of the token after each position, float32 (B, L, V)."""
    with tf.control_dependencies([_require_positions(model.config.seq_len, tf.shape(ids)[1])]):
        return model(tf.identity(ids))


def _generate(seq_len: int, continued: Callable[..., Tensor], ids: Tensor, *choices: Tensor) -> Tensor:
    """Returns the new tokens of each row, int32 (B, max_new_tokens), and EOS from where a text ends."""
    lengths, max_new_tokens, *_ = Choices(*choices)
    length, first = tf.shape(ids)[1], tf.reduce_max(lengths)
    checks = [
        _require_positions(seq_len, length),
        _require_positions(seq_len, first + max_new_tokens),
        tf.debugging.assert_positive(lengths, "a prompt has at least one token"),
        tf.debugging.assert_less_equal(lengths, length, "a prompt is longer than its row"),
    ]
    with tf.control_dependencies(checks):
        prompts = tf.pad(ids, [[0, 0], [0, seq_len - length]])
    slots = continued(tf.ensure_shape(prompts, (None, seq_len)), *choices)
    return slots[:, first : first + max_new_tokens]


def _continued(model: GPT, eos_id: int, prompts: Tensor, *choices: Tensor) -> Tensor:
    lengths, max_new_tokens, temperature, top_k, top_p, seed = Choices(*choices)
    drawing = Drawing(eos_id, GivenSampling.of(temperature, top_k, top_p))
    return continue_prompts(model, prompts, lengths, max_new_tokens, seed, drawing)


def _require_positions(seq_len: int, n_positions: Tensor) -> tf.Operation:
    return tf.debugging.assert_less_equal(n_positions, seq_len, f"the model has {seq_len} positions")


@contextlib.contextmanager
def without_progress() -> Iterator[None]:
    """Leaves out what TensorFlow logs while it saves, which tells a user nothing; `--verbosity 1` has it."""
    if logging.get_verbosity() != logging.INFO:
        yield
        return
    logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        logging.set_verbosity(logging.INFO)
