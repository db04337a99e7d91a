"""The plain GPT-2 that computes the same as an ALGPT-2.

With the token table T (V, E), the position table P (L, E), the projections x A + a into the residual stream and x B + b
out of it, and the last layer norm n(x) g + c:

- The first block's input is (T[i] + P[p]) A + a. So the tables are T A, and P A + a.
- The logits are ((n(x) g + c) B + b) T^T. So the head is T B^T, which is not tied to the token table. GPT-2's head has
  no bias, but its last layer norm has one: c + s, where s B = b. B (D, E) has such an s for every b if its rank is E.
- A shared block is written once for each of its applications.

Products are float64, rounded to float32 once. NumPy is all that this module needs.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np

from algpt2.config.model import GPTConfig
from algpt2.errors import UserError

# In transformers' `GPT2LMHeadModel` the names of all tensors but the head's begin with the first of these.
PREFIX, HEAD_NAME = "transformer.", "lm_head.weight"
# The float64 product of a table is made for so many rows at a time, so that it does not take twice the table's memory.
ROWS_AT_ONCE = 4096
# How much of b may be missed, after rounding, relative to the size of n(x) g B + c B + b.
LARGEST_RESIDUAL = 1e-5

Parameters = Mapping[str, np.ndarray]


def require_no_variants(config: GPTConfig) -> None:
    """Raises `UserError` if the model computes what no plain GPT-2 does."""
    if config.variants:
        raise UserError(
            f"a GPT-2 of Hugging Face or keras-hub has GPT-2's own {', '.join(config.variants)}, and this model has "
            "another: use --to saved_model or --to litert."
        )


def plain_config(config: GPTConfig) -> GPTConfig:
    """Returns the config of the GPT-2 whose blocks and tables `plain_parameters` gives."""
    own_layers = {"share_layers": False, "attention_sharing": None, "feed_forward_sharing": None}
    return dataclasses.replace(config, **own_layers, embedding_size=None)


def plain_parameters(config: GPTConfig, parameters: Parameters) -> dict[str, np.ndarray]:
    """Returns the parameters of the GPT-2 that computes the same, under the names of transformers' `GPT2LMHeadModel`.

    Arrays may stand in several places: those of a shared block do, so that it takes the memory of one.

    Args:
      config: of the ALGPT-2.
      parameters: float32, by the names in a checkpoint.

    Raises:
      UserError: a variant that no GPT-2 has, or no bias of the last layer norm gives the bias of the head projection.
    """
    require_no_variants(config)
    body = {
        f"{PREFIX}h.{layer}.{name}": parameters[f"h.{_set_of(config, layer, name)}.{name}"]
        for layer in range(config.n_layer)
        for name in _names_in_a_block(parameters)
    }
    norm = {name: parameters[name] for name in ("ln_f.weight", "ln_f.bias")}
    tables = {name: parameters[name] for name in ("wte.weight", "wpe.weight")}
    if not config.embedding_size:
        return body | {PREFIX + name: value for name, value in (tables | norm).items()}
    norm["ln_f.bias"] = _norm_bias_with_head_bias(parameters)
    kernel, bias = parameters["embedding_projection.weight"], parameters["embedding_projection.bias"]
    tables = {
        "wte.weight": _product(parameters["wte.weight"], kernel),
        "wpe.weight": _product(parameters["wpe.weight"], kernel, bias),
    }
    head = _product(parameters["wte.weight"], parameters["head_projection.weight"].T)
    return body | {PREFIX + name: value for name, value in (tables | norm).items()} | {HEAD_NAME: head}


def _set_of(config: GPTConfig, layer: int, name: str) -> int:
    """Returns the number of the block that holds a parameter of a layer."""
    is_of_attention = name.startswith(("ln_1.", "attn."))
    return (config.attention_sets if is_of_attention else config.feed_forward_sets)[layer]


def _names_in_a_block(parameters: Parameters) -> list[str]:
    return [name.removeprefix("h.0.") for name in parameters if name.startswith("h.0.")]


def _product(table: np.ndarray, kernel: np.ndarray, bias: np.ndarray | float = 0.0) -> np.ndarray:
    """Returns table (R, E) x kernel (E, D) + bias, computed in float64, as float32 (R, D)."""
    kernel, rows = kernel.astype(np.float64), len(table)
    result = np.empty((rows, kernel.shape[1]), np.float32)
    for start in range(0, rows, ROWS_AT_ONCE):
        some = slice(start, start + ROWS_AT_ONCE)
        result[some] = table[some].astype(np.float64) @ kernel + bias
    return result


def _norm_bias_with_head_bias(parameters: Parameters) -> np.ndarray:
    """Returns the bias of the last layer norm, float32 (D,), that gives the head projection's bias too."""
    names = ("ln_f.weight", "ln_f.bias", "head_projection.weight", "head_projection.bias")
    scale, bias, kernel, head_bias = (parameters[name].astype(np.float64) for name in names)
    shift = np.linalg.lstsq(kernel.T, head_bias, rcond=None)[0]
    rounded = (bias + shift).astype(np.float32)
    residual = np.abs((rounded - bias) @ kernel - head_bias).max()
    size = ((np.abs(scale) + np.abs(bias)) @ np.abs(kernel) + np.abs(head_bias)).max()
    if residual > LARGEST_RESIDUAL * size:
        raise UserError(
            "an ALGPT-2 is a plain GPT-2 only if the bias of its head projection can be that of its last layer norm, "
            f"and here {residual:.1e} of it is left, beside values up to {size:.1e}: its head projection maps d_model "
            "to embedding_size by a matrix of too low a rank, so use the checkpoint as it is."
        )
    return rounded
