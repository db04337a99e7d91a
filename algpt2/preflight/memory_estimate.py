"""What a run takes up: optimizer state, checkpoints, and an estimate of the memory of one replica."""

import math

from algpt2.config.model import GPTConfig
from algpt2.config.training import TrainConfig
from algpt2.model.sizes import chunk_tokens, parameter_shapes

FLOAT32_BYTES = 4
COMPUTE_BYTES = {"float32": 4, "bfloat16": 2}


def optimizer_state_bytes(model: GPTConfig, train: TrainConfig) -> int:
    """Returns the bytes of the optimizer's state, and of the moving average of the weights if there is one.

    Adafactor has a mean for each row and each column of a large matrix. The other optimizers have at most AdamW's two
    moments, which is what counts for them.
    """
    shapes = parameter_shapes(model).values()
    size = sum(map(math.prod, shapes))
    ema = size if train.ema_decay else 0
    if train.optimizer != "adafactor":
        return FLOAT32_BYTES * (2 * size + ema)
    factored = train.min_dim_size_to_factor
    second_moment = sum(
        sum(shape) if len(shape) == 2 and min(shape) >= factored else math.prod(shape) for shape in shapes
    )
    return FLOAT32_BYTES * (second_moment + (size if train.beta_1 is not None else 0) + ema)


def checkpoint_bytes(model: GPTConfig, train: TrainConfig) -> int:
    """Returns the bytes of one checkpoint's tensors."""
    return FLOAT32_BYTES * model.parameter_count() + optimizer_state_bytes(model, train)


def replica_bytes(model: GPTConfig, train: TrainConfig, micro_batch: int) -> dict[str, int]:
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
        "optimizer state": optimizer_state_bytes(model, train),
        "activations": tokens * per_token * width,
        "logits": chunk_tokens(tokens) * model.vocab_size * width,
    }
