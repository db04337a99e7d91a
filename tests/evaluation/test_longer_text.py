"""A model with ALiBi on longer text than it was trained with, by the commands that evaluate and generate."""

import dataclasses

import numpy as np
import pytest
from command_line import EVALUATE, GENERATE, call, to_arguments
from interchange import GPT2, TEXT, save_randomised, tiny_tokenizer
from numpy_gpt import forward

LONGER = 2 * GPT2.seq_len


@pytest.fixture(scope="module")
def model_and_places(tmp_path_factory):
    """A random model with ALiBi for 12 positions, and what the braces in flags stand for."""
    folder = tmp_path_factory.mktemp("alibi")
    config = dataclasses.replace(GPT2, n_layer=1, position_encoding="alibi")
    (folder / "text.txt").write_text(TEXT * 2)
    return save_randomised(folder / "checkpoint", config), {"here": folder}


def run(scripts, script, places, **flags):
    return call(scripts[script]["main"], to_arguments({"checkpoint": "{here}/checkpoint", **flags}, places))


def nats_by_numpy(model, ids):
    """Each target's negative log-likelihood."""
    parameters = {name: parameter.numpy() for name, parameter in model.named_parameters().items()}
    logits = forward(parameters, ids[None, :-1], model.config.n_layer, model.config.n_head)[0]
    return np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(ids) - 1), ids[1:]]


def test_windows_of_twice_the_trained_length_have_the_perplexity_of_numpy(scripts, model_and_places):
    model, places = model_and_places
    result = run(scripts, EVALUATE, places, data="{here}/text.txt", protocol="raw", seq_len=LONGER).result
    tokenizer = tiny_tokenizer()
    ids = np.array([tokenizer.eos_id, *tokenizer.encode(TEXT * 2)])
    starts = range(0, len(ids) - 1, LONGER)
    expected = sum(nats_by_numpy(model, ids[start : start + LONGER + 1]).sum() for start in starts)
    assert (result["window"], result["scored_tokens"]) == (LONGER, len(ids) - 1)
    assert result["total_nats"] == pytest.approx(expected, rel=1e-6)


def test_text_beyond_the_trained_length_is_that_of_a_loop_without_a_cache(scripts, model_and_places):
    model, places = model_and_places
    n_new, eos_id = LONGER - 5, tiny_tokenizer().eos_id
    result = run(scripts, GENERATE, places, prompt="the", temperature=0, max_new_tokens=n_new, seq_len=LONGER).result
    ids = [eos_id, *tiny_tokenizer().encode("the")]
    for _ in range(n_new):
        ids.append(int(np.argmax(model(np.array([ids], "int32")).numpy()[0, -1, : eos_id + 1])))
    assert eos_id not in ids[1:], "choose another prompt: this text ends"
    assert result["texts"][0]["text"] == tiny_tokenizer().decode(ids[-n_new:])


@pytest.mark.parametrize(
    ("checkpoint", "seq_len", "rule"),
    [
        ("{good}/gpt2", 32, "--seq_len must be 16 for a model with a table of as many positions, received 32"),
        ("{here}/checkpoint", 0, "seq_len must be a whole number of at least 1, received 0"),
    ],
)
def test_positions_that_a_model_cannot_have_are_refused(scripts, good, model_and_places, checkpoint, seq_len, rule):
    places = {**model_and_places[1], "good": good}
    outcome = run(scripts, GENERATE, places, checkpoint=checkpoint, seq_len=seq_len)
    assert outcome.status == 2
    assert rule in outcome.sentence
