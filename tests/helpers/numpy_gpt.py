"""An independent forward pass of GPT-2 and ALGPT-2 in NumPy float64, written from the papers for the tests."""

import dataclasses
import math

import numpy as np


@dataclasses.dataclass(frozen=True)
class Variant:
    """What the parameters alone do not tell; by default a single block is applied n_layer times, or each is once."""

    attention_sets: tuple[int, ...] | None = None
    feed_forward_sets: tuple[int, ...] | None = None
    logit_scale: float = 1.0
    eos_id: int | None = None


def forward(
    parameters: dict[str, np.ndarray], ids: np.ndarray, n_layer: int, n_head: int, variant: Variant = Variant()
) -> np.ndarray:
    """Returns logits (B, L, V); an own head counts, and a factorized model without one uses the transposed matrix.

    Without a position table, attention is ALiBi's. With `eos_id`, which begins a document, it stays in the document.
    """
    p = {name: value.astype(np.float64) for name, value in parameters.items()}
    x = p["wte.weight"][ids]
    if "wpe.weight" in p:
        x = x + p["wpe.weight"][: ids.shape[1]]
    bias = _attention_bias(ids, n_head if "wpe.weight" not in p else 0, variant.eos_id)
    if "embedding_norm.weight" in p:
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * p["embedding_norm.weight"]
    if "embedding_projection.weight" in p:
        x = x @ p["embedding_projection.weight"] + p["embedding_projection.bias"]
    n_block = len({name.split(".")[1] for name in p if name.startswith("h.")})
    plain_sets = range(n_layer) if n_block > 1 else [0] * n_layer
    for layer in range(n_layer):
        attention = f"h.{(variant.attention_sets or plain_sets)[layer]}"
        feed_forward = f"h.{(variant.feed_forward_sets or plain_sets)[layer]}"
        x = x + _attention(p, f"{attention}.attn", _layer_norm(p, f"{attention}.ln_1", x), n_head, bias)
        hidden = _gelu(_dense(p, f"{feed_forward}.mlp.c_fc", _layer_norm(p, f"{feed_forward}.ln_2", x)))
        x = x + _dense(p, f"{feed_forward}.mlp.c_proj", hidden)
    x = _layer_norm(p, "ln_f", x)
    if "head_projection.weight" in p:
        x = _dense(p, "head_projection", x)
    elif "head_projection.bias" in p:
        x = x @ p["embedding_projection.weight"].T + p["head_projection.bias"]
    return x @ p.get("lm_head.weight", p["wte.weight"]).T * variant.logit_scale


def _dense(p, name, x):
    return x @ p[f"{name}.weight"] + p[f"{name}.bias"]


def _layer_norm(p, name, x):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]


def _gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _attention_bias(ids, n_alibi_heads, eos_id):
    """(B, heads or 1, L, L): minus slope x distance, and minus infinity where a query does not see a key."""
    batch, length = ids.shape
    bias = np.zeros((batch, max(n_alibi_heads, 1), length, length))
    if n_alibi_heads:
        bias -= _slopes(n_alibi_heads)[:, None, None] * np.subtract.outer(np.arange(length), np.arange(length))
    for b, i, j in np.ndindex(batch, length, length):
        # Between a key and a query of one document no other begins.
        if j > i or (eos_id is not None and eos_id in ids[b, j + 1 : i + 1]):
            bias[b, :, i, j] = -np.inf
    return bias


def _slopes(n_head):
    """As the paper tells them: a geometric sequence; for another number, the next power's are interleaved."""
    if math.log2(n_head).is_integer():
        return np.array([2.0 ** (-8.0 / n_head)]) ** np.arange(1, n_head + 1)
    power = 2 ** math.floor(math.log2(n_head))
    return np.concatenate([_slopes(power), _slopes(2 * power)[0::2][: n_head - power]])


def _attention(p, name, x, n_head, bias):
    batch, length, width = x.shape
    size = width // n_head
    qkv = _dense(p, f"{name}.c_attn", x)
    output = np.zeros_like(x)
    for b in range(batch):
        for h in range(n_head):
            q, k, v = (qkv[b, :, part * width + h * size : part * width + (h + 1) * size] for part in range(3))
            for t in range(length):
                scores = q[t] @ k.T / math.sqrt(size) + bias[b, h % bias.shape[1], t]
                weights = np.exp(scores - scores.max())
                output[b, t, h * size : (h + 1) * size] = weights / weights.sum() @ v
    return _dense(p, f"{name}.c_proj", output)
