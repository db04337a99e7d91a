"""An independent forward pass of GPT-2 and ALGPT-2 in NumPy float64, written from the papers for the tests."""

import math

import numpy as np


def forward(parameters: dict[str, np.ndarray], ids: np.ndarray, n_layer: int, n_head: int) -> np.ndarray:
    """Returns logits (B, L, V); a single block is applied n_layer times, and an own head counts."""
    p = {name: value.astype(np.float64) for name, value in parameters.items()}
    x = p["wte.weight"][ids] + p["wpe.weight"][: ids.shape[1]]
    if "embedding_projection.weight" in p:
        x = x @ p["embedding_projection.weight"] + p["embedding_projection.bias"]
    n_block = len({name.split(".")[1] for name in p if name.startswith("h.")})
    for layer in range(n_layer):
        prefix = f"h.{layer if n_block > 1 else 0}"
        x = x + _attention(p, f"{prefix}.attn", _layer_norm(p, f"{prefix}.ln_1", x), n_head)
        hidden = _dense(p, f"{prefix}.mlp.c_fc", _layer_norm(p, f"{prefix}.ln_2", x))
        x = x + _dense(p, f"{prefix}.mlp.c_proj", _gelu(hidden))
    x = _layer_norm(p, "ln_f", x)
    if "head_projection.weight" in p:
        x = _dense(p, "head_projection", x)
    return x @ p.get("lm_head.weight", p["wte.weight"]).T


def _dense(p, name, x):
    return x @ p[f"{name}.weight"] + p[f"{name}.bias"]


def _layer_norm(p, name, x):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * p[f"{name}.weight"] + p[f"{name}.bias"]


def _gelu(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _attention(p, name, x, n_head):
    batch, length, width = x.shape
    size = width // n_head
    qkv = _dense(p, f"{name}.c_attn", x)
    output = np.zeros_like(x)
    for b in range(batch):
        for h in range(n_head):
            q, k, v = (qkv[b, :, part * width + h * size : part * width + (h + 1) * size] for part in range(3))
            for t in range(length):
                scores = q[t] @ k[: t + 1].T / math.sqrt(size)
                weights = np.exp(scores - scores.max())
                output[b, t, h * size : (h + 1) * size] = weights / weights.sum() @ v[: t + 1]
    return _dense(p, f"{name}.c_proj", output)
