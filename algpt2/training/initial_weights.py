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

TOKEN_TABLES = {"wte.weight", "lm_head.weight"}
# Where these agree, a checkpoint fits. The number of layers, whether they are shared, dropout, and whether attention
# crosses documents may differ. The vocabulary may be larger than the checkpoint's.
SAME_FIELDS = ("position_encoding", "d_model", "n_head", "feed_forward_size", "embedding_size")


def find_initial_weights(initial: InitialWeights, config: GPTConfig, tokenizer: Tokenizer) -> Checkpoint:
    """Returns a checkpoint whose weights fit a model and the tokenizer of its records.

    The tokenizer may have chat tokens behind all tokens of the checkpoint's.

    Raises:
      UserError: no intact checkpoint, another tokenizer, or a model that its weights do not fit.
    """
    checkpoint = find_checkpoint(initial.path)
    folder = checkpoint.folder
    if not tokenizer.extends(Tokenizer.load(folder)):
        raise UserError(
            f"--initialize_from must have the tokenizer of the training records, and {folder} has another: make "
            f"records with --tokenizer {folder}."
        )
    source = load_config(folder)
    if source.vocab_size > config.vocab_size:
        raise UserError(
            f"--initialize_from must have at most the model's vocab_size {config.vocab_size}, and {folder} has "
            f"{source.vocab_size}: give --vocab_size {source.vocab_size}."
        )
    for name in (*SAME_FIELDS, *(["seq_len"] if config.n_position_rows else [])):
        if getattr(source, name) != getattr(config, name):
            raise UserError(
                f"--initialize_from must have the model's {name} {getattr(config, name)}, and {folder} has "
                f"{getattr(source, name)}: choose another --config_path."
            )
    if source.n_block != config.n_block:
        _require_duplication(folder, source.n_block, config.n_block, initial.duplicate_layers)
    return checkpoint


def set_initial_weights(model: GPT, checkpoint: Checkpoint, tokenizer: Tokenizer) -> None:
    """Sets a model's parameters to those of a checkpoint that fits.

    Blocks are repeated where the model has more, and rows of the token tables are added for ids that the checkpoint
    does not know.

    Args:
      model: is changed.
      checkpoint: what `find_initial_weights` has found.
      tokenizer: of the records.
    """
    tensors = read_tensors(checkpoint.local_file(MODEL_NAME))
    tensors = with_duplicated_blocks(tensors, load_config(checkpoint.folder).n_block, model.config.n_block)
    known, told = Tokenizer.load(checkpoint.folder).vocab_size, tokenizer.vocab_size
    for name in TOKEN_TABLES & tensors.keys():
        tensors[name] = with_new_rows(tensors[name], known, told, model.config.vocab_size)
    assign_tensors(tensors, model.named_parameters(), checkpoint.folder)


def with_new_rows(table: np.ndarray, known_ids: int, ids: int, rows: int) -> np.ndarray:
    """Returns a token table, float32 (rows, width), whose new rows are the mean of those of the known ids.

    New are the rows of ids that the table was not trained for, and those that it does not have. A table may have had
    rows behind its last id before; such a row that no id needs stays as it is.

    Args:
      table: float32 (R, width), R at most `rows`.
      known_ids: how many ids the tokenizer has that the table was trained with, at most R.
      ids: how many the tokenizer has now, at most `rows`.
      rows: of the new table.
    """
    if (ids, rows) == (known_ids, len(table)):
        return table
    grown = np.concatenate([table, np.empty((rows - len(table), table.shape[1]), table.dtype)])
    mean = table[:known_ids].mean(axis=0, dtype=np.float64).astype(table.dtype)
    grown[known_ids:ids] = mean
    grown[len(table) :] = mean
    return grown


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
