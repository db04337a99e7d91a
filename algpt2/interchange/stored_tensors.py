"""The tensors of a Hugging Face folder: one safetensors file, or several with an index."""

from collections.abc import Sequence
from typing import NamedTuple

import ml_dtypes  # noqa: F401, because safetensors gives bfloat16 to NumPy only where this is imported
import numpy as np
from safetensors import SafetensorError, safe_open

from algpt2 import storage
from algpt2.checkpoints.folder import MODEL_NAME
from algpt2.errors import UserError, shown
from algpt2.storage import json_files

INDEX_NAME = "model.safetensors.index.json"
# What a folder has that was saved in a way that runs the code in it when it is read.
PICKLED_NAMES = ("pytorch_model.bin", "pytorch_model.bin.index.json")
# The dtypes that float32 holds, or rounds as training does, by safetensors' names.
FLOATING = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


class StoredTensor(NamedTuple):
    """A tensor that is not read yet.

    Attributes:
      name: in its file.
      path: of its file, for messages.
      local_file: the file, or its copy, on this machine.
      shape: in its own order.
      dtype: safetensors' name, such as "F32".
    """

    name: str
    path: str
    local_file: str
    shape: tuple[int, ...]
    dtype: str

    def read(self) -> np.ndarray:
        """Returns it as float32.

        Raises:
          UserError: it is not of floating numbers, or not all of them are finite.
        """
        if self.dtype not in FLOATING:
            known = ", ".join(FLOATING.values())
            raise UserError(
                f"tensors must be {known}, and {self.name} in {self.path} is {self.dtype}: save the model in float32."
            )
        with safe_open(self.local_file, framework="numpy") as file:
            values = np.ascontiguousarray(file.get_tensor(self.name), dtype=np.float32)
        if not np.isfinite(values).all():
            raise UserError(
                f"a model's numbers must be finite, and {self.name} in {self.path} has others: take another copy."
            )
        return values


def find_tensors(folder: str, copies: storage.LocalCopies) -> dict[str, StoredTensor]:
    """Returns the tensors of a folder, local or gs://, by their names in it.

    Raises:
      UserError: there are none, a file is missing or damaged, or the index and its files contradict each other.
    """
    if storage.exists(storage.join(folder, MODEL_NAME)):
        return _tensors_of(folder, [MODEL_NAME], copies)
    if not storage.exists(storage.join(folder, INDEX_NAME)):
        raise _no_tensors(folder)
    place_of = _read_index(storage.join(folder, INDEX_NAME))
    found = _tensors_of(folder, sorted(set(place_of.values())), copies)
    if different := sorted(
        name
        for name in place_of.keys() | found.keys()
        if name not in found or found[name].path != storage.join(folder, place_of.get(name, ""))
    ):
        raise UserError(
            f"{INDEX_NAME} must say which file holds each tensor, and in {folder} it does not of "
            f"{', '.join(different[:5])}: copy the folder again."
        )
    return found


def _tensors_of(folder: str, names: Sequence[str], copies: storage.LocalCopies) -> dict[str, StoredTensor]:
    found = {}
    for name in names:
        path = storage.join(folder, name)
        if not storage.exists(path):
            raise UserError(f"{INDEX_NAME} names {name}, and {folder} lacks it: copy it there.")
        for tensor in _tensors_in(path, copies.file(path)):
            if tensor.name in found:
                raise UserError(f"a tensor must be in one file, and {tensor.name} is in several of {folder}: mend it.")
            found[tensor.name] = tensor
    return found


def _tensors_in(path: str, local_file: str) -> list[StoredTensor]:
    try:
        with safe_open(local_file, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118, it is no dict
            return [
                StoredTensor(name, path, local_file, tuple(one.get_shape()), one.get_dtype())
                for name, one in slices.items()
            ]
    except SafetensorError as error:
        raise UserError(f"{path} must be a whole safetensors file, and it is not ({error}): copy it again.") from error


def _read_index(path: str) -> dict[str, str]:
    """Returns the file of each tensor, by the tensor's name."""
    with json_files.refusing(path, "say which file holds each tensor", "copy it again"):
        place_of = json_files.load_object(path).get("weight_map")
        if not isinstance(place_of, dict) or not place_of:
            raise ValueError("it has no weight_map")
        for name in place_of.values():
            if not isinstance(name, str) or "/" in name or not name.endswith(".safetensors"):
                raise ValueError(f"it names {shown(name)}, which is no safetensors file beside it")
    return place_of


def _no_tensors(folder: str) -> UserError:
    if any(storage.exists(storage.join(folder, name)) for name in PICKLED_NAMES):
        return UserError(
            f"the weights must be safetensors, and {folder} has only {PICKLED_NAMES[0]}, which can run code when it is "
            "read: convert it with `GPT2LMHeadModel.from_pretrained(DIR).save_pretrained(NEW_DIR)` of transformers."
        )
    return UserError(f"a Hugging Face folder must hold {MODEL_NAME} or {INDEX_NAME}, and {folder} does not: copy it.")
