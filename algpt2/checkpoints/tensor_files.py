"""Named tensors to safetensors files and back, and into the variables of a model or an optimizer."""

from collections.abc import Mapping

import keras
import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from algpt2 import storage
from algpt2.errors import UserError


def write_tensors(path: str, tensors: dict[str, np.ndarray]) -> str:
    """Writes a safetensors file; returns its SHA-256 in hexadecimal."""
    with storage.writing(path) as local_file:
        try:
            # transformers refuses a file without this mark; the layout is the same for every framework.
            safetensors.save_file(tensors, local_file, metadata={"format": "pt"})
        except SafetensorError as error:
            raise storage.failed_write(path, str(error)) from error
        return storage.file_sha256(local_file)


def read_tensors(path: str) -> dict[str, np.ndarray]:
    """Returns the content of a safetensors file on this machine."""
    return safetensors.load_file(path)


def assign_tensors(tensors: Mapping[str, np.ndarray], variables: Mapping[str, keras.Variable], path: str) -> None:
    """Sets variables to tensors of the same names, or none of them.

    Args:
      tensors: by name.
      variables: by name.
      path: where the tensors come from, for messages.

    Raises:
      UserError: there are not the same names, shapes and dtypes on both sides.
    """
    if different := sorted(set(tensors) ^ set(variables)):
        raise UserError(f"{path} must hold this model's tensors, and these differ: {', '.join(different[:5])}.")
    for name, variable in variables.items():
        wanted, found = ((tuple(one.shape), str(one.dtype)) for one in (variable, tensors[name]))
        if wanted != found:
            raise UserError(
                f"{name} must have shape {wanted[0]} and dtype {wanted[1]}, and {path} has {found[0]}, {found[1]}."
            )
    for name, variable in variables.items():
        variable.assign(tensors[name])
