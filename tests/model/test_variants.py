"""What a model can be beside GPT-2 and the ALGPT-2 of 2020: each variant against NumPy, counted, cached and saved."""

import dataclasses

import numpy as np
import pytest
from numpy_gpt import Variant, forward
from tiny_models import ALGPT2_CONFIG, GPT2_CONFIG, randomised
from tiny_step import ONE, TWO, require_equal, train

from algpt2.config.model import GPTConfig
from algpt2.errors import UserError
from algpt2.model.gpt import GPT
from algpt2.model.sizes import parameter_shapes, training_flops_per_token

FOUR_LAYERS = dataclasses.replace(GPT2_CONFIG, n_layer=4)
FACTORIZED = dataclasses.replace(GPT2_CONFIG, embedding_size=8)
# The fields that differ from a base, and what NumPy's pass is told beside the parameters.
VARIANTS = {
    "ends": (FOUR_LAYERS, {"attention_sharing": "ends", "feed_forward_sharing": "ends"}, ((0, 1, 1, 2),) * 2),
    "attention alone": (FOUR_LAYERS, {"attention_sharing": "all"}, ((0, 0, 0, 0), (0, 1, 2, 3))),
    "feed-forward in a cycle": (
        FOUR_LAYERS,
        {"share_layers": True, "feed_forward_sharing": "cycle 2"},
        ((0, 0, 0, 0), (0, 1, 0, 1)),
    ),
    "untied head": (GPT2_CONFIG, {"untied_head": True}, ()),
    "untied factorized head": (FACTORIZED, {"untied_head": True}, ()),
    "tied projections": (ALGPT2_CONFIG, {"tied_projections": True}, ()),
    "embedding norm": (FACTORIZED, {"embedding_norm": True}, ()),
    "embedding norm of full width": (GPT2_CONFIG, {"embedding_norm": True}, ()),
    "logit scale": (GPT2_CONFIG, {"logit_scale": 2.0}, {"logit_scale": 2.0}),
    "logits as gpt2's": (
        FACTORIZED,
        {"logits_as_gpt2": True, "logit_scale": 0.5},
        {"logit_scale": 0.5 * (768 / 8) ** 0.5},
    ),
}


@pytest.fixture(params=VARIANTS)
def variant(request):
    base, fields, told = VARIANTS[request.param]
    told = told if isinstance(told, dict) else dict(zip(("attention_sets", "feed_forward_sets"), told, strict=False))
    return dataclasses.replace(base, **fields), Variant(**told)


def test_logits_agree_with_an_independent_numpy_forward_pass(variant, rng):
    config, told = variant
    model = randomised(config)
    ids = rng.integers(config.vocab_size, size=(2, config.seq_len))
    parameters = {name: parameter.numpy() for name, parameter in model.named_parameters().items()}
    expected = forward(parameters, ids, config.n_layer, config.n_head, told)
    np.testing.assert_allclose(model(ids.astype("int32")).numpy(), expected, atol=1e-4, rtol=1e-4)


OWN_NAMES = {
    "embedding_norm/scale": "embedding_norm.weight",
    "head_bias": "head_projection.bias",
}
GPT2_WORDS = {"kernel": "weight", "gamma": "weight", "beta": "bias"}


def name_of(path):
    """'gpt/h_0/attn/c_attn/kernel', as Keras calls it -> 'h.0.attn.c_attn.weight', as GPT-2's checkpoint does."""
    path = path.partition("/")[2]
    *layers, last = path.replace("h_", "h.").split("/")
    return OWN_NAMES.get(path) or ".".join([*layers, GPT2_WORDS.get(last, last)] if layers else [last, "weight"])


def test_every_parameter_is_counted_named_and_used(variant):
    config, _ = variant
    model = GPT(config)
    named = model.named_parameters()
    assert {name: tuple(parameter.shape) for name, parameter in named.items()} == parameter_shapes(config)
    assert [*named] == [name_of(parameter.path) for parameter in model.trainable_variables]
    assert model.count_params() == config.parameter_count()


def test_a_cache_gives_the_hidden_states_of_the_whole_text(variant, rng):
    config, _ = variant
    model = randomised(config)
    ids = rng.integers(config.vocab_size, size=(2, 6)).astype("int32")
    cache, first_slots = model.empty_cache(2, 8), np.zeros(2, "int32")
    parts = []
    for start, end in ((0, 4), (4, 5), (5, 6)):
        hidden, cache = model.call_with_cache(ids[:, start:end], cache, start, first_slots, model.documents_of(ids))
        parts.append(hidden)
    np.testing.assert_allclose(np.concatenate(parts, axis=1), model.hidden_states(ids), atol=1e-4, rtol=1e-4)


# Each is in a step that trains: no two of them exclude each other.
SHARED_IN_PARTS = dataclasses.replace(
    FACTORIZED, n_layer=3, attention_sharing="cycle 2", feed_forward_sharing="ends", dropout=0.2
)
TOGETHER = [
    dataclasses.replace(ALGPT2_CONFIG, untied_head=True, dropout=0.2),
    dataclasses.replace(SHARED_IN_PARTS, tied_projections=True, embedding_norm=True, logits_as_gpt2=True),
]


@pytest.mark.parametrize("config", TOGETHER)
def test_a_step_of_variants_is_the_same_on_two_replicas_and_where_only_the_inputs_of_blocks_are_kept(config):
    """With dropout where one replica runs: catches a part that draws the masks of another."""
    with_dropout = train(ONE, config, n_steps=2, jit_compile=False)
    require_equal(train(ONE, config, n_steps=2, jit_compile=False, remat="block"), with_dropout)
    config = dataclasses.replace(config, dropout=0.0)
    require_equal(*(train(devices, config, n_steps=2, jit_compile=False) for devices in (TWO, ONE)))


def test_sharing_and_an_own_head_change_no_flops():
    flops = training_flops_per_token(FACTORIZED)
    for fields in ({"share_layers": True}, {"attention_sharing": "all"}, {"untied_head": True}):
        assert training_flops_per_token(dataclasses.replace(FACTORIZED, **fields)) == flops
    tied = dataclasses.replace(FACTORIZED, tied_projections=True)
    assert training_flops_per_token(tied) == flops


def test_logits_start_as_large_as_gpt2s_at_any_width(rng):
    ids = rng.integers(64, size=(4, 16)).astype("int32")
    wide = dataclasses.replace(GPT2_CONFIG, d_model=768)
    narrow = dataclasses.replace(GPT2_CONFIG, d_model=96, embedding_size=24)
    assert np.std(GPT(narrow)(ids)) < 0.3 * np.std(GPT(wide)(ids))
    scaled = dataclasses.replace(narrow, logits_as_gpt2=True)
    assert np.std(GPT(scaled)(ids)) == pytest.approx(np.std(GPT(wide)(ids)), rel=0.15)


def test_the_original_initialization_shrinks_the_stream_of_a_factorized_model():
    config = GPTConfig(vocab_size=512, seq_len=16, n_layer=2, n_head=2, d_model=256, embedding_size=64)
    ids = np.arange(16, dtype="int32")[None]
    original = GPT(dataclasses.replace(config, initialization="original"))
    assert np.std(original.embed(ids)) == pytest.approx(np.std(GPT(config).embed(ids)) * 0.02 * 64**0.5, rel=0.15)
    named = original.named_parameters()
    assert np.std(named["h.0.mlp.c_proj.weight"]) == pytest.approx(0.02, rel=0.03)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"tied_projections": True}, "tied_projections needs factorized embeddings and the tied head"),
        ({"logit_scale": 0.0}, "logit_scale must be above 0, received 0.0"),
        ({"logit_scale": float("inf")}, "logit_scale must be a finite number"),
        ({"initialization": "he"}, "initialization must be one of scaled, original"),
        ({"untied_head": 1}, "untied_head must be true or false, received 1"),
        ({"attention_sharing": 3}, "attention_sharing must be a text or null, received 3"),
    ],
)
def test_a_field_that_breaks_its_rule_is_refused_in_a_sentence(fields, sentence):
    with pytest.raises(UserError, match=sentence):
        dataclasses.replace(GPT2_CONFIG, **fields)
