"""Configs: the parameter counts of the published models, and every way a config can be wrong."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import ALGPT2_CONFIG, GPT2_CONFIG

from algpt2.config.model import GPTConfig, preset_names
from algpt2.config.model_files import CONFIG_NAME, MODEL_TYPES, load_config
from algpt2.errors import UserError
from algpt2.model.gpt import GPT

# L, d, heads, E, shared, dropout, parameters: from the published models, not from our formula.
PUBLISHED = {
    "gpt2": (12, 768, 12, None, False, 0.1, 124_439_808),
    "gpt2-medium": (24, 1024, 16, None, False, 0.1, 354_823_168),
    "gpt2-large": (36, 1280, 20, None, False, 0.1, 774_030_080),
    "gpt2-xl": (48, 1600, 25, None, False, 0.1, 1_557_611_200),
    "gpt3-125m": (12, 768, 12, None, False, 0.0, 125_226_240),
    "algpt2": (12, 768, 12, 128, True, 0.1, 13_850_880),
    "algpt2-no-dropout": (12, 768, 12, 128, True, 0.0, 13_850_880),
    "algpt2-factorized-256": (12, 768, 12, 256, True, 0.1, 20_611_584),
    "algpt2-factorized-512": (12, 768, 12, 512, True, 0.1, 34_132_992),
    "algpt2-shared": (12, 768, 12, None, True, 0.1, 46_473_216),
    "algpt2-medium": (24, 1024, 16, 128, True, 0.1, 19_425_536),
    "algpt2-medium-shared": (24, 1024, 16, None, True, 0.1, 65_110_016),
    "algpt2-large": (36, 1280, 20, 128, True, 0.1, 26_573_056),
    "algpt2-xl": (48, 1600, 25, 128, True, 0.1, 37_719_296),
}
# The models of the recipes that are no GPT-2 of OpenAI: n_layer, d_model, n_head, vocab_size, seq_len, parameters.
OF_RECIPES = {
    "gpt2-50304": (12, 768, 12, 50304, 1024, 124_475_904),
    "alibi-580m": (18, 1536, 12, 50304, 1024, 587_237_376),
    "decoder-89m": (12, 512, 8, 50257, 256, 89_423_872),
    "decoder-304m": (16, 1024, 16, 50257, 256, 304_730_112),
    "decoder-1b": (24, 1728, 18, 50257, 128, 1_034_415_360),
}
# Ours: an ALGPT-2 of 2020 with what a study confirmed, which is a gain for each column of the tables and no more.
SECOND_VERSIONS = {f"algpt2-v2{size}": f"algpt2{size}" for size in ("", "-medium", "-large", "-xl", "-tiny")}
TINY = ("gpt2-tiny", "algpt2-tiny", "algpt2-v2-tiny")


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_has_its_shape_and_exactly_its_parameters(name):
    config = GPTConfig.from_preset(name)
    shape = (config.n_layer, config.d_model, config.n_head, config.embedding_size, config.share_layers, config.dropout)
    assert (*shape, config.parameter_count()) == PUBLISHED[name]
    assert (config.vocab_size, config.seq_len) == (50257, 2048 if name == "gpt3-125m" else 1024)
    assert config.feed_forward_size == 4 * config.d_model
    assert config.model_type == ("algpt2" if name.startswith("algpt2") else "gpt2")


@pytest.mark.parametrize("name", OF_RECIPES)
def test_a_model_of_a_recipe_has_its_shape_and_exactly_its_parameters(name):
    config = GPTConfig.from_preset(name)
    shape = (config.n_layer, config.d_model, config.n_head, config.vocab_size, config.seq_len)
    assert (*shape, config.parameter_count()) == OF_RECIPES[name]


@pytest.mark.parametrize(("name", "of_2020"), SECOND_VERSIONS.items())
def test_a_second_version_differs_in_scale_and_dropout_alone(name, of_2020):
    config, older = GPTConfig.from_preset(name), GPTConfig.from_preset(of_2020)
    assert config == dataclasses.replace(older, embedding_norm=True, logits_as_gpt2=True, dropout=0.0)
    assert config.parameter_count() == older.parameter_count() + config.embedding_size


def test_the_presets_are_the_published_models_second_versions_and_tiny_ones():
    assert preset_names() == sorted({*PUBLISHED, *OF_RECIPES, *SECOND_VERSIONS, *TINY})
    assert (
        GPTConfig.from_preset("gpt2-tiny").model_type,
        GPTConfig.from_preset("algpt2-tiny").model_type,
    ) == MODEL_TYPES


sizes = st.integers(1, 5)


@settings(max_examples=8, deadline=None)
@given(
    vocab_size=st.integers(1, 40),
    seq_len=st.integers(1, 9),
    n_layer=st.integers(1, 3),
    n_head=sizes,
    head_size=sizes,
    d_ff=st.none() | st.integers(1, 30),
    embedding_size=st.none() | st.integers(1, 30),
    share_layers=st.booleans(),
)
def test_parameter_count_is_the_number_of_the_built_models_parameters(head_size, n_head, **fields):
    config = GPTConfig(n_head=n_head, d_model=n_head * head_size, **fields)
    assert sum(variable.numpy().size for variable in GPT(config).trainable_variables) == config.parameter_count()


@pytest.mark.parametrize("name", TINY)
def test_a_tiny_preset_builds_the_parameters_that_it_counts(name):
    model = GPT(GPTConfig.from_preset(name))
    assert (
        sum(variable.numpy().size for variable in model.trainable_variables)
        == GPTConfig.from_preset(name).parameter_count()
    )


@pytest.mark.parametrize(
    ("share_layers", "embedding_size", "model_type"),
    [(False, None, "gpt2"), (True, None, "algpt2"), (False, 8, "algpt2"), (True, 8, "algpt2")],
)
def test_sharing_or_factorizing_makes_an_algpt2(share_layers, embedding_size, model_type):
    config = dataclasses.replace(GPT2_CONFIG, share_layers=share_layers, embedding_size=embedding_size)
    assert config.model_type == model_type


@pytest.mark.parametrize("name", ["vocab_size", "seq_len", "n_layer", "n_head", "d_model", "d_ff", "embedding_size"])
@pytest.mark.parametrize("value", [0, -1, 1.0, "8", True])
def test_a_size_must_be_a_positive_whole_number(name, value):
    with pytest.raises(UserError, match=rf"{name} must be a whole number of at least 1, received {value!r}"):
        dataclasses.replace(GPT2_CONFIG, **{name: value})


@pytest.mark.parametrize("name", ["vocab_size", "n_layer", "d_model"])
def test_only_an_optional_size_may_be_none(name):
    with pytest.raises(UserError, match=name):
        dataclasses.replace(GPT2_CONFIG, **{name: None})


@pytest.mark.parametrize(
    ("name", "value"),
    [("dropout", -0.1), ("dropout", 1), ("dropout", float("nan")), ("dropout", "0.1"), ("dropout", True)]
    + [("share_layers", 1), ("share_layers", "true"), ("share_layers", None)],
)
def test_dropout_must_be_a_fraction_and_share_layers_a_truth_value(name, value):
    with pytest.raises(UserError, match=f"{name} must be"):
        dataclasses.replace(GPT2_CONFIG, **{name: value})


def test_d_model_must_be_a_multiple_of_n_head():
    with pytest.raises(UserError, match="multiple of n_head, received d_model=32 and n_head=3"):
        dataclasses.replace(GPT2_CONFIG, n_head=3)


def test_an_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=r"gpt2-xl.*received 'gpt5'"):
        GPTConfig.from_preset("gpt5")
    with pytest.raises(UserError, match=r"gpt2-xl.*received 'gpt5'"):
        GPTConfig.from_preset("gpt5")


@pytest.mark.parametrize("config", [GPT2_CONFIG, ALGPT2_CONFIG])
def test_a_config_comes_back_from_a_json_file(tmp_path, config):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(config.to_dict()))
    assert load_config(str(path)) == config


def test_a_checkpoints_config_is_read_from_its_nested_fields_only(tmp_path):
    """The other fields are for transformers and would be unknown keys."""
    fields = {"architectures": ["GPT2LMHeadModel"], "n_embd": 99, "n_layer": 99, "algpt2": ALGPT2_CONFIG.to_dict()}
    (tmp_path / CONFIG_NAME).write_text(json.dumps(fields))
    assert load_config(str(tmp_path)) == ALGPT2_CONFIG
    assert load_config(f"{tmp_path}/") == ALGPT2_CONFIG
    assert load_config(str(tmp_path / CONFIG_NAME)) == ALGPT2_CONFIG


def test_a_presets_name_means_the_preset():
    assert (
        load_config("algpt2-medium") == GPTConfig.from_preset("algpt2-medium") == GPTConfig.from_preset("algpt2-medium")
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"n_layer": 2, "n_layers": 3}', r"unknown keys \['n_layers'\].*n_layer"),
        (b'{"n_layer": "2"}', 'its n_layer is "2", not a whole number'),
        (b'{"n_layer": 0}', "n_layer must be a whole number of at least 1, received 0"),
        (b'{"algpt2": {"n_layer": 2, "depth": 3}}', r"unknown keys \['depth'\]"),
        (b'{"algpt2": 3}', "must be a JSON object"),
        (b'{"algpt2": [["n_layer", 2]]}', "must be a JSON object"),
        (b"[1, 2]", "must be a JSON object .*, and it is a list"),
        (b"null", "must be a JSON object"),
        (b"{", "must be a JSON object"),
        (b"", "must be a JSON object"),
        (b"\xff\xfe", "must be a JSON object"),
    ],
)
def test_a_wrong_config_file_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "wrong.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as raised:
        load_config(str(path))
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("name", ["missing.json", "missing-folder", ""])
def test_a_config_that_is_not_there_is_refused_with_the_presets(tmp_path, name):
    with pytest.raises(UserError, match=r"a preset \(algpt2, .*a JSON file or a folder with config.json"):
        load_config(str(tmp_path / name))


@pytest.mark.parametrize("name", ["vocab_size", "seq_len", "n_layer", "n_head", "d_model", "d_ff", "embedding_size"])
@pytest.mark.parametrize("value", [2**31, 2**63, 10**23, 10**4000])
def test_a_size_that_no_table_can_have_is_refused(name, value):
    with pytest.raises(
        UserError, match=f"{name} must be at least 1 and below 2\\^31, received {str(value)[:9]}"
    ) as raised:
        dataclasses.replace(GPT2_CONFIG, **{name: value})
    assert len(str(raised.value)) < 400
