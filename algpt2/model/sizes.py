"""What follows from a model's configuration by arithmetic, without TensorFlow."""

import dataclasses
from collections import Counter

from algpt2.config.model import GPTConfig
from algpt2.config.step_shape import StepShape, shape_at
from algpt2.config.training import TrainConfig
from algpt2.devices.chips import peak_flops

# The loss works in chunks of tokens. Each reads the token table and adds to its gradient, so small chunks cost memory
# traffic; the logits of one are (tokens, V), in bfloat16 206 MB for 2048 tokens and GPT-2's vocabulary.
LEAST_CHUNK_TOKENS = 2048
# Each chunk is a part of the graph of its own, so their number is bounded.
MOST_CHUNKS = 8


def chunk_tokens(tokens: int) -> int:
    """Returns how many of `tokens` tokens make one chunk of the loss; the last chunk may be smaller."""
    return min(tokens, max(LEAST_CHUNK_TOKENS, -(-tokens // MOST_CHUNKS)))


def training_flops_per_token(config: GPTConfig) -> int:
    """Returns the FLOPs of one token's forward and backward pass: 6 N + 12 n_layer d_model seq_len.

    N counts the parameters that a token is multiplied with: a shared block once for each application, the token table
    once (as the head), the dense layers of a factorized model, and not the position table, which is only looked up. The
    second term is attention's (PaLM, arXiv:2204.02311, appendix B).
    """
    own = {"share_layers": False, "attention_sharing": None, "feed_forward_sharing": None, "untied_head": False}
    applied = dataclasses.replace(config, **own, tied_projections=False).parameter_count()
    n = applied - config.n_position_rows * config.table_width
    return 6 * n + 12 * config.n_layer * config.d_model * config.seq_len


def training_flops(tokens: int, model: GPTConfig, training: TrainConfig) -> float:
    """Returns the FLOPs of a training, by `training_flops_per_token` at the shape of each step.

    They are less than those of the model's full shape where layers or positions are few at first.

    Args:
      tokens: of all steps, each of which has as many.
      model: at its full depth and length.
      training: says how many steps there are, and which of them have fewer layers or positions.
    """
    shapes = Counter(shape_at(step, training, model) for step in range(training.total_steps))
    whole = sum(steps * training_flops_per_token(_of_shape(model, shape)) for shape, steps in shapes.items())
    return float(tokens * whole / training.total_steps)


def _of_shape(model: GPTConfig, shape: StepShape) -> GPTConfig:
    """Returns a model that costs as much; which layers share parameters costs nothing."""
    unshared = {"share_layers": False, "attention_sharing": None, "feed_forward_sharing": None}
    return dataclasses.replace(model, **shape._asdict(), **unshared)


def mfu(config: GPTConfig, tokens_per_second: float, n_replicas: int, device_kind: str) -> float:
    """Returns the model FLOPs utilisation: the fraction of the devices' peak that a training throughput amounts to.

    Args:
      config: of the model.
      tokens_per_second: target tokens, of all replicas together.
      n_replicas: cores on TPU v2 and v3, chips on later ones, GPUs.
      device_kind: one of `algpt2.devices.chips.CHIPS`.

    Raises:
      UserError: a kind of device whose peak is not known here.
    """
    return tokens_per_second * training_flops_per_token(config) / peak_flops(n_replicas, device_kind)


def parameter_shapes(config: GPTConfig) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every parameter by its name in a checkpoint, as `GPT.named_parameters` has them."""
    d, e = config.d_model, config.table_width
    shapes = {"wte.weight": (config.vocab_size, e)}
    shapes |= {"wpe.weight": (config.n_position_rows, e)} if config.n_position_rows else {}
    shapes |= {"lm_head.weight": (config.vocab_size, e)} if config.untied_head else {}
    shapes |= {"head_projection.bias": (e,)} if config.tied_projections else {}
    shapes |= {"embedding_norm.weight": (e,)} if config.embedding_norm else {}
    shapes |= _dense_shapes("embedding_projection", e, d) if config.embedding_size else {}
    shapes |= _dense_shapes("head_projection", d, e) if config.embedding_size and not config.tied_projections else {}
    for i in range(config.n_block):
        shapes |= _block_shapes(f"h.{i}", config, i)
    return shapes | _layer_norm_shapes("ln_f", d)


def matrix_count(name: str, shape: tuple[int, ...]) -> int:
    """Returns how many matrices, side by side, Muon finds in a parameter; 0 leaves it to AdamW.

    The kernels of attention and feed-forward parts are Muon's. `c_attn` (D, 3D) holds three matrices, which make query,
    key and value. Orthogonalised as one they would share its D singular values, and the one with the largest gradients
    would take most of the step; orthogonalised apart, each takes a full step.

    Args:
      name: of the parameter, as `GPT.named_parameters` says it.
      shape: of the parameter.
    """
    if not name.startswith("h.") or len(shape) != 2:
        return 0
    return 3 if name.endswith("attn.c_attn.weight") else 1


def _block_shapes(prefix: str, config: GPTConfig, index: int) -> dict[str, tuple[int, ...]]:
    d, f, shapes = config.d_model, config.feed_forward_size, {}
    has_attention, has_feed_forward = index < config.n_attention, index < config.n_feed_forward
    shapes |= _layer_norm_shapes(f"{prefix}.ln_1", d) if has_attention else {}
    shapes |= _layer_norm_shapes(f"{prefix}.ln_2", d) if has_feed_forward else {}
    if has_attention:
        shapes |= _dense_shapes(f"{prefix}.attn.c_attn", d, 3 * d) | _dense_shapes(f"{prefix}.attn.c_proj", d, d)
    if has_feed_forward:
        shapes |= _dense_shapes(f"{prefix}.mlp.c_fc", d, f) | _dense_shapes(f"{prefix}.mlp.c_proj", f, d)
    return shapes


def _dense_shapes(prefix: str, width_in: int, width_out: int) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.weight": (width_in, width_out), f"{prefix}.bias": (width_out,)}


def _layer_norm_shapes(prefix: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}.weight": (width,), f"{prefix}.bias": (width,)}
