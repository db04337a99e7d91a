"""`config.json` in the form that Hugging Face `transformers` reads, with our own config inside it."""

from typing import Any

from algpt2.config.model import GPTConfig
from algpt2.config.model_files import OWN_KEY
from algpt2.model.layers import INITIAL_STDDEV, LAYER_NORM_EPSILON


def config_json(config: GPTConfig, eos_id: int) -> dict[str, Any]:
    """Returns the fields of a checkpoint's `config.json`.

    `model.safetensors` has GPT-2's published names and layouts (dense kernels are (in, out), as in its Conv1D), so a
    GPT-2 checkpoint folder loads with `GPT2LMHeadModel.from_pretrained(folder)`. ALGPT-2 has no class there.
    """
    published = {
        "model_type": config.model_type,
        "vocab_size": config.vocab_size,
        "n_positions": config.seq_len,
        "n_embd": config.d_model,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_inner": config.feed_forward_size,
        "activation_function": "gelu_new",
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "layer_norm_epsilon": LAYER_NORM_EPSILON,
        "initializer_range": INITIAL_STDDEV,
        "bos_token_id": eos_id,
        "eos_token_id": eos_id,
        "tie_word_embeddings": not config.untied_head,
    }
    if config.model_type == "gpt2":
        published["architectures"] = ["GPT2LMHeadModel"]
    return {**published, OWN_KEY: config.to_dict()}
