"""Starting a run from a checkpoint's weights (`--initialize_from`), if need be with more layers than it has."""

import numpy as np

from algpt2 import checkpoints, storage
from algpt2.config import load_config
from algpt2.errors import UserError
from algpt2.model import GPT
from algpt2.run_plan import InitialWeights
from algpt2.tensor_files import assign_tensors, read_tensors
from algpt2.tokenizer import Tokenizer


def set_initial_weights(model: GPT, initial: InitialWeights, tokenizer_sha256: str) -> str:
    """Sets a model's parameters to a checkpoint's; returns the checkpoint's folder.

    Raises:
      UserError: no intact checkpoint, another tokenizer than the records', or a model that its weights do not fit.
    """
    folder = checkpoints.find_checkpoint(initial.path)
    if Tokenizer.load(folder).sha256 != tokenizer_sha256:
        raise UserError(
            f"--initialize_from must have the tokenizer of the training records, and {folder} has another: make "
            f"records with --tokenizer {folder}."
        )
    tensors = read_tensors(storage.join(folder, checkpoints.MODEL_NAME))
    n_blocks, wanted = load_config(folder).n_block, model.config.n_block
    if n_blocks != wanted:
        _require_duplication(folder, n_blocks, wanted, initial.duplicate_layers)
        tensors = with_duplicated_blocks(tensors, n_blocks, wanted)
    assign_tensors(tensors, model.named_parameters(), folder)
    return folder


def with_duplicated_blocks(tensors: dict[str, np.ndarray], n_blocks: int, wanted: int) -> dict[str, np.ndarray]:
    """Returns the parameters of a deeper model: its block j is block floor(j n_blocks / wanted) of the other.

    18 -> 24 doubles every third block, 0 -> 0, 1; 1 -> 2; 2 -> 3; 3 -> 4, 5 (Rae et al. 2021, arXiv:2112.11446,
    section G.3.3). One shared block becomes every block.
    """
    deeper = {name: tensor for name, tensor in tensors.items() if not name.startswith("h.")}
    for j in range(wanted):
        source = f"h.{j * n_blocks // wanted}."
        for name, tensor in tensors.items():
            if name.startswith(source):
                deeper[f"h.{j}.{name.removeprefix(source)}"] = tensor
    return deeper


def _require_duplication(folder: str, n_blocks: int, wanted: int, allowed: bool) -> None:
    if not allowed:
        raise UserError(
            f"--initialize_from must have the model's {wanted} blocks, and {folder} has {n_blocks}: choose another "
            "--config_path, or add --duplicate_layers if the model has more."
        )
    if n_blocks > wanted:
        raise UserError(
            f"--duplicate_layers makes a model deeper, and {folder} has {n_blocks} blocks, the model only {wanted}: "
            "choose another --config_path."
        )
