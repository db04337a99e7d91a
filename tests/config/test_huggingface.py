"""`config.json` with Hugging Face's keys: what it means, what is refused."""

import dataclasses
import json

import pytest

from algpt2.checkpoints.huggingface_config import config_json
from algpt2.config import huggingface
from algpt2.config.model import GPTConfig, preset_names
from algpt2.config.model_files import load_config, preset_of
from algpt2.errors import UserError
from algpt2.model.layers import INITIAL_STDDEV, LAYER_NORM_EPSILON

# What the hub said of `gpt2` in 2020, when the original project was written.
OF_2020 = {
    **{"activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1},
    **{"bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02},
    **{"layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12},
    **{"n_positions": 1024, "resid_pdrop": 0.1, "summary_type": "cls_index", "summary_use_proj": True},
    **{"task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}}, "vocab_size": 50257},
}


@pytest.fixture
def load(tmp_path):
    """Reads a folder's `config.json` with these fields, None for one that is left out."""

    def load(fields, **options):
        kept = {name: value for name, value in fields.items() if value is not None}
        (tmp_path / "config.json").write_text(json.dumps(kept))
        return load_config(str(tmp_path), **options)

    return load


def test_the_hubs_gpt2_of_2020_is_our_preset_and_the_log_says_so(load, caplog):
    caplog.set_level("INFO", "absl")
    assert load(OF_2020) == GPTConfig.from_preset("gpt2")
    assert "its model is the preset gpt2" in caplog.text
    assert preset_of(load({**OF_2020, "n_layer": 5})) is None
    assert "its model is none of the presets" in caplog.text


@pytest.mark.parametrize("name", [name for name in preset_names() if not GPTConfig.from_preset(name).variants])
def test_every_preset_written_for_transformers_and_read_without_our_key_is_itself(load, name):
    preset = GPTConfig.from_preset(name)
    fields = config_json(preset, eos_id=7)
    del fields["algpt2"]
    fields |= {"embedding_size": preset.embedding_size, "num_hidden_groups": 1 if preset.share_layers else None}
    assert load(fields) == preset


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"n_layer": 3, "n_head": 2, "n_embd": 8}, {"n_layer": 3, "n_head": 2, "d_model": 8}),
        ({"n_inner": 100}, {"d_ff": 100}),
        ({"n_inner": 4 * 768}, {}),
        ({"n_positions": 64, "n_ctx": None}, {"seq_len": 64}),
        ({"n_positions": None, "n_ctx": 64}, {"seq_len": 64}),
        ({"n_positions": None, "n_ctx": None}, {"seq_len": 1024}),
        ({"resid_pdrop": 0, "embd_pdrop": 0.0, "attn_pdrop": 0}, {"dropout": 0}),
        ({"activation_function": "gelu_pytorch_tanh"}, {}),
        ({"model_type": "algpt2"}, {"share_layers": True}),
        ({"model_type": "algpt2", "embedding_size": 128}, {"share_layers": True, "embedding_size": 128}),
        ({"model_type": "algpt2", "embedding_size": 768}, {"share_layers": True}),
        ({"model_type": "algpt2", "num_hidden_groups": 12, "embedding_size": 128}, {"embedding_size": 128}),
        ({"num_hidden_groups": 1}, {"share_layers": True}),
    ],
)
def test_each_key_means_our_field(load, changes, expected):
    assert load({**OF_2020, **changes}) == dataclasses.replace(GPTConfig(), **expected)


def test_what_distilgpt2_says_beside_is_of_no_effect(load):
    """As its `config.json` on the hub has it."""
    beside = {
        "_num_labels": 1,
        "id2label": {"0": "LABEL_0"},
        "label2id": {"LABEL_0": 0},
        "summary_proj_to_labels": True,
    }
    assert load({**OF_2020, **beside, "n_layer": 6}) == dataclasses.replace(GPTConfig(), n_layer=6)


def test_a_file_that_does_not_say_its_type_has_that_of_the_flag(load):
    untyped = {**OF_2020, "model_type": None}
    assert load(untyped, model_type="algpt2").share_layers
    assert not load(untyped).share_layers
    assert not load(OF_2020, model_type="algpt2").share_layers


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"activation_function": "relu"}, 'its activation_function is "relu", where the model has "gelu_new"'),
        ({"layer_norm_epsilon": 1e-6}, "its layer_norm_epsilon is 1e-06, where the model has 1e-05"),
        ({"initializer_range": 0.01}, "its initializer_range is 0.01, where the model has 0.02"),
        ({"attn_pdrop": 0.0}, "are 0.1, 0.1 and 0.0, where the model has one rate"),
        ({"reorder_and_upcast_attn": True}, "its reorder_and_upcast_attn is true, where the model has false"),
        ({"scale_attn_weights": False}, "its scale_attn_weights is false"),
        ({"scale_attn_by_inverse_layer_idx": True}, "its scale_attn_by_inverse_layer_idx is true"),
        ({"tie_word_embeddings": False}, "its tie_word_embeddings is false, where the model has true"),
        ({"add_cross_attention": True}, "its add_cross_attention is true"),
        ({"pruned_heads": {"1": [0]}}, "its pruned_heads is"),
        ({"n_ctx": 512}, "its n_positions is 1024 and its n_ctx 512"),
        ({"num_hidden_groups": 3}, "its num_hidden_groups is 3, where the model has 1 or n_layer"),
        ({"model_type": "bert"}, 'its model_type is "bert", where the model has "gpt2" or "algpt2"'),
        ({"rotary_dim": 64}, "it has unknown keys ['rotary_dim']"),
        ({"n_embd": "768"}, 'its n_embd is "768", not a whole number'),
        ({"n_embd": 770}, "d_model must be a multiple of n_head"),
        ({"vocab_size": 2**63}, "vocab_size must be at least 1 and below 2^31"),
        ({"d_model": 768}, "it has unknown keys ['d_model']"),
    ],
)
def test_what_our_model_does_not_compute_is_refused_by_name(load, tmp_path, changes, reason):
    with pytest.raises(UserError) as raised:
        load({**OF_2020, **changes})
    assert reason in str(raised.value)
    assert str(tmp_path / "config.json") in str(raised.value)


def test_what_the_model_computes_in_any_case_is_what_the_model_computes():
    assert huggingface.COMPUTED["layer_norm_epsilon"] == (LAYER_NORM_EPSILON,)
    assert huggingface.COMPUTED["initializer_range"] == (INITIAL_STDDEV,)


def test_every_key_that_transformers_writes_is_known(load):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    assert load(transformers.GPT2Config().to_dict()) == GPTConfig.from_preset("gpt2")
