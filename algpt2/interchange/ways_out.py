"""The forms of other programs in which a checkpoint can be written: the values of `--to`.

A form is one line of `WAYS_OUT`: its name, its marker and a function. The function gets a committed checkpoint and the
path of an empty folder on this machine, fills the folder with every file of the form but `README.md`, and returns what
is worth telling of the files as plain JSON values. Of these, `DESCRIPTION` is a sentence. A model that has no such form
is refused by the function with a `UserError`.

`convert.py` does the rest: it checks that the output is new or empty, writes the model card, and moves the files to the
output, on disk or gs://, all or none.

Nothing here imports TensorFlow, so that `--help` answers at once: each function imports what it needs when it is
called.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from algpt2.checkpoints.folder import Checkpoint

DESCRIPTION = "description"
LITERT_NAME = "model.tflite"


class WayOut(NamedTuple):
    """A form of another program.

    Attributes:
      library: who loads it, as the Hugging Face Hub calls it in a model card's `library_name`.
      marker: the file, by its path below the folder, without which no program takes the folder for whole.
      write: (checkpoint, empty local folder) -> facts.
      usage: Python code for the model card that loads the folder, for whose path it has the word FOLDER.
    """

    library: str
    marker: str
    write: Callable[[Checkpoint, str], dict[str, Any]]
    usage: str


def _write_huggingface(checkpoint: Checkpoint, folder: str) -> dict[str, Any]:
    from algpt2.interchange.to_huggingface import write_huggingface

    return write_huggingface(checkpoint, folder)


def _write_keras_hub(checkpoint: Checkpoint, folder: str) -> dict[str, Any]:
    from algpt2.interchange.to_keras_hub import write_keras_hub

    return write_keras_hub(checkpoint, folder)


def _write_saved_model(checkpoint: Checkpoint, folder: str) -> dict[str, Any]:
    from algpt2.interchange.to_saved_model import write_saved_model

    return write_saved_model(checkpoint, folder)


def _write_litert(checkpoint: Checkpoint, folder: str) -> dict[str, Any]:
    from algpt2.interchange.to_litert import write_litert

    return write_litert(checkpoint, folder)


HUGGINGFACE_USAGE = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("FOLDER")
tokenizer = AutoTokenizer.from_pretrained("FOLDER")"""

KERAS_HUB_USAGE = """\
import keras_hub

model = keras_hub.models.CausalLM.from_preset("FOLDER")
print(model.generate("Once upon a time", max_length=40))"""

SAVED_MODEL_USAGE = """\
import tensorflow as tf
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("FOLDER/tokenizer.json")
model = tf.saved_model.load("FOLDER")
ids = tokenizer.encode("<|endoftext|>Once upon a time").ids
logits = model.logits(tf.constant([ids]))  # float32 (batch, length, vocabulary)
# 40 new tokens for each prompt, with temperature 0.8 (0 always takes the likeliest), top-k 40, top-p 0.95 and seed 1.
new = model.generate([ids], [len(ids)], 40, 0.8, 40, 0.95, 1)  # int32 (batch, 40)
print(tokenizer.decode(new[0].numpy()))"""

LITERT_USAGE = """\
import numpy as np
from ai_edge_litert.interpreter import Interpreter
from tokenizers import Tokenizer

ids = Tokenizer.from_file("FOLDER/tokenizer.json").encode("<|endoftext|>Once upon a time").ids
model = Interpreter("FOLDER/model.tflite")
model.allocate_tensors()
(given,), (result,) = model.get_input_details(), model.get_output_details()
padded = np.zeros(given["shape"], np.int32)
padded[0, : len(ids)] = ids
model.set_tensor(given["index"], padded)
model.invoke()
logits = model.get_tensor(result["index"])[0, : len(ids)]  # what stands behind a token does not change its logits"""

WAYS_OUT = {
    "huggingface": WayOut("transformers", "config.json", _write_huggingface, HUGGINGFACE_USAGE),
    "keras_hub": WayOut("keras-hub", "config.json", _write_keras_hub, KERAS_HUB_USAGE),
    "saved_model": WayOut("tf", "saved_model.pb", _write_saved_model, SAVED_MODEL_USAGE),
    "litert": WayOut("tflite", LITERT_NAME, _write_litert, LITERT_USAGE),
}
