"""Starting a run from a checkpoint's weights (`--initialize_from`), if need be with more layers than it has."""

import numpy as np

from algpt2.checkpoints.folder import MODEL_NAME, Checkpoint, find_checkpoint
from algpt2.checkpoints.tensor_files import assign_tensors, read_tensors
from algpt2.config.model import GPTConfig
from algpt2.config.model_files import load_config
from algpt2.errors import UserError
from algpt2.model.gpt import GPT
from algpt2.runs.plan import InitialWeights
from algpt2.text.tokenizer import Tokenizer

# Where these agree, a checkpoint fits. The number of layers, whether they are shared, dropout, and whether attention
# crosses documents may differ.
SAME_FIELDS = ("vocab_size", "position_encoding", "d_model", "n_head", "feed_forward_size", "embedding_size")


def find_initial_weights(initial: InitialWeights, config: GPTConfig, tokenizer_sha256: str) -> Checkpoint:
    """Returns a checkpoint whose weights fit a model and the tokenizer of its records.

    Raises:
      UserError: no intact checkpoint, another tokenizer, or a model that its weights do not fit.
    """
    checkpoint = find_checkpoint(initial.path)
    folder = checkpoint.folder
    if Tokenizer.load(folder).sha256 != tokenizer_sha256:
        raise UserError(
            f"--initialize_from must have the tokenizer of the training records, and {folder} has another: make "
            f"records with --tokenizer {folder}."
        )
    source = load_config(folder)
    for name in (*SAME_FIELDS, *(["seq_len"] if config.n_position_rows else [])):
        if getattr(source, name) != getattr(config, name):
            raise UserError(
                f"--initialize_from must have the model's {name} {getattr(config, name)}, and {folder} has "
                f"{getattr(source, name)}: choose another --config_path."
            )
    if source.n_block != config.n_block:
        _require_duplication(folder, source.n_block, config.n_block, initial.duplicate_layers)
    return checkpoint


def set_initial_weights(model: GPT, checkpoint: Checkpoint) -> None:
    """Sets a model's parameters to those of a checkpoint that fits, repeating blocks where the model has more."""
    tensors = read_tensors(checkpoint.local_file(MODEL_NAME))
    tensors = with_duplicated_blocks(tensors, load_config(checkpoint.folder).n_block, model.config.n_block)
    assign_tensors(tensors, model.named_parameters(), checkpoint.folder)


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
