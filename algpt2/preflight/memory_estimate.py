"""What a run takes up: optimizer state, checkpoints, and an estimate of the memory of one replica."""

import math
from collections import Counter
from collections.abc import Collection, Mapping

from algpt2.config.model import GPTConfig
from algpt2.config.training import TrainConfig
from algpt2.model.sizes import chunk_tokens, matrix_count, parameter_shapes

FLOAT32_BYTES = 4
COMPUTE_BYTES = {"float32": 4, "bfloat16": 2}


def optimizer_state_bytes(model: GPTConfig, train: TrainConfig, n_replicas: int = 1) -> int:
    """Returns the bytes of one replica's optimizer state, and of its moving average of the weights if there is one.

    Adafactor has a mean for each row and each column of a large matrix, AdamW two moments, and Muon one of its own
    matrices. State that is shared out is cut into equal parts, of elements, or of whole matrices for Muon's own.

    Args:
      model: the model.
      train: how it is trained.
      n_replicas: to which the state is shared out, if `train` says so; 1 for all of it.
    """
    shapes = parameter_shapes(model)
    parts = n_replicas if train.shard_optimizer_state else 1
    size = sum(_part(math.prod(shape), parts) for shape in shapes.values())
    ema = size if train.ema_decay else 0
    if train.optimizer == "adafactor":
        return FLOAT32_BYTES * (_adafactor_elements(shapes.values(), train) + ema)
    matrices, kernels = _matrices_of_muon(shapes) if train.optimizer == "muon" else ({}, set())
    momentum = sum(_part(count, parts) * math.prod(shape) for shape, count in matrices.items())
    moments = sum(2 * _part(math.prod(shape), parts) for name, shape in shapes.items() if name not in kernels)
    return FLOAT32_BYTES * (momentum + moments + ema)


def _part(count: int, parts: int) -> int:
    """Returns how many of so many things the largest of equal parts has."""
    return -(-count // parts)


def _matrices_of_muon(shapes: Mapping[str, tuple[int, ...]]) -> tuple[Counter[tuple[int, int]], set[str]]:
    """Returns how many matrices of each shape Muon has, the smaller side first, and the names of their kernels."""
    matrices, kernels = Counter(), set()
    for name, shape in shapes.items():
        if count := matrix_count(name, shape):
            rows, columns = shape[0], shape[1] // count
            matrices[min(rows, columns), max(rows, columns)] += count
            kernels.add(name)
    return matrices, kernels


def _adafactor_elements(shapes: Collection[tuple[int, ...]], train: TrainConfig) -> int:
    factored = train.min_dim_size_to_factor
    second_moment = sum(
        sum(shape) if len(shape) == 2 and min(shape) >= factored else math.prod(shape) for shape in shapes
    )
    return second_moment + (sum(map(math.prod, shapes)) if train.beta_1 is not None else 0)


def checkpoint_bytes(model: GPTConfig, train: TrainConfig) -> int:
    """Returns the bytes of one checkpoint's tensors, which are whole, however they are shared out."""
    return FLOAT32_BYTES * model.parameter_count() + optimizer_state_bytes(model, train)


def replica_bytes(model: GPTConfig, train: TrainConfig, micro_batch: int, n_replicas: int = 1) -> dict[str, int]:
    """Returns an estimate of what one replica holds while it trains, in bytes, by the name of each part.

    - Parameters and gradients are float32. With accumulation there are two sets of gradients: those of the micro-batch
      and their sum.
    - Activations are what the backward pass reads, in the compute dtype. For a token in each layer these are 8 d + 2 f
      numbers: the residual stream twice, two normed inputs, query, key, value and attention's output, and the
      feed-forward part before and after its gelu. With `remat` they are those of one layer, and the input of each.
    - Of the logits one chunk is held.

    The compiler recomputes, fuses and reuses buffers, so it takes less (docs/design/preflight.md).

    Args:
      model: the model.
      train: how it is trained.
      micro_batch: sequences of one replica's micro-batch.
      n_replicas: of the run, to which the optimizer's state may be shared out.
    """
    parameters = FLOAT32_BYTES * model.parameter_count()
    width = COMPUTE_BYTES[train.compute_dtype]
    tokens = micro_batch * model.seq_len
    per_layer = 8 * model.d_model + 2 * model.feed_forward_size
    per_token = model.n_layer * per_layer
    if train.remat == "block":
        per_token = per_layer + model.n_layer * model.d_model
    return {
        "parameters": parameters,
        "gradients": parameters * (2 if train.accumulation_steps > 1 else 1),
        "optimizer state": optimizer_state_bytes(model, train, n_replicas),
        "activations": tokens * per_token * width,
        "logits": chunk_tokens(tokens) * model.vocab_size * width,
    }
