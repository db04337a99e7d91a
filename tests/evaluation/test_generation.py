"""Generation with a key-value cache: the same text as without one, from two graphs."""

import dataclasses

import numpy as np
import pytest
from tiny_models import GPT2_CONFIG

from algpt2.config.sampling import SamplingConfig
from algpt2.data.tokenizer import Tokenizer
from algpt2.errors import UserError
from algpt2.evaluation import generation
from algpt2.evaluation.generation import CachedDecoder, generate, generate_ids
from algpt2.model.gpt import GPT

EOS_ID = GPT2_CONFIG.vocab_size - 1
GREEDY = SamplingConfig(max_new_tokens=10, temperature=0)


def randomised(config):
    """A model whose predictions depend strongly on their context, so that it does not repeat itself."""
    model, rng = GPT(config), np.random.default_rng(7)
    for name, parameter in model.named_parameters().items():
        is_kernel = len(parameter.shape) == 2 and not name.startswith("w")
        scale = parameter.shape[0] ** -0.5 if is_kernel else 0.1 if name.endswith("bias") else 1.0
        parameter.assign(rng.normal(scale=scale, size=parameter.shape))
    return model


@pytest.fixture
def model(tiny_config):
    return randomised(tiny_config)


@pytest.fixture
def ids(rng):
    return rng.integers(EOS_ID, size=GPT2_CONFIG.seq_len).astype("int32")


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["the cat sat on the mat"] * 3, 260)


@pytest.fixture(scope="module")
def text_model(tokenizer):
    return randomised(dataclasses.replace(GPT2_CONFIG, vocab_size=tokenizer.vocab_size))


def test_cached_logits_are_the_uncached_ones_at_every_position_after_every_prompt(model, ids, traces):
    expected = model(ids[None]).numpy()[0]
    decoder = CachedDecoder(model)
    for n_prompt in range(16, 0, -1):  # a shorter prompt must not see what a longer one left in the cache
        found = [decoder.prefill(ids[:n_prompt]), *(decoder.extend(token) for token in ids[n_prompt:])]
        assert np.abs(np.array(found) - expected[n_prompt - 1 :]).max() <= 1e-5
    assert np.abs(expected).max() > 1
    assert len(traces) == 2, "a graph for prompts and one for further tokens"


def test_a_prompt_taken_in_by_pieces_has_the_same_logits_at_every_position(model, ids):
    expected = model(ids[None]).numpy()[0]
    cache, found = model.empty_cache(1), []
    for start, end in ((0, 5), (5, 6), (6, 16)):
        logits, cache = model.call_with_cache(ids[None, start:end], cache, start)
        found.append(logits.numpy()[0])
    assert np.abs(np.concatenate(found) - expected).max() <= 1e-5


def test_greedy_generation_is_an_uncached_greedy_loop(model, ids):
    prompt = ids[:4].tolist()
    expected = list(prompt)
    for _ in range(10):
        logits = model(np.array([expected], np.int32)).numpy()[0, -1]
        expected.append(int(np.argmax(logits)))
    assert EOS_ID not in expected, "choose another model: this one ends early"
    assert len(set(expected[4:])) > 2, "choose another model: this one repeats itself"
    assert list(generate_ids(CachedDecoder(model), prompt, EOS_ID, GREEDY)) == expected[4:]


@pytest.fixture
def traces(monkeypatch):
    """A list that grows whenever a graph of the model with a cache is made: only then does Python run the method."""
    traced, call_with_cache = [], GPT.call_with_cache
    monkeypatch.setattr(
        GPT, "call_with_cache", lambda model, ids, *rest: traced.append(ids.shape) or call_with_cache(model, ids, *rest)
    )
    return traced


def given_logits(monkeypatch, logits):
    """Lets the decoder return these logits, one row after another, and returns the list of tokens it takes in."""
    rows, taken = iter(logits), []
    monkeypatch.setattr(CachedDecoder, "prefill", lambda self, ids: next(rows))
    monkeypatch.setattr(CachedDecoder, "extend", lambda self, token: taken.append(token) or next(rows))
    return taken


def scripted(monkeypatch, tokens):
    """Makes each of these tokens in turn the only one that can be drawn."""
    return given_logits(monkeypatch, np.where(np.eye(64)[tokens], 0, -np.inf).astype("float32"))


def drawn(monkeypatch, logits, eos_id=EOS_ID, **options):
    given_logits(monkeypatch, logits)
    config = SamplingConfig(max_new_tokens=len(logits), **options)
    return generated(config, eos_id)


def generated(config, eos_id=EOS_ID):
    return list(generate_ids(CachedDecoder(GPT(GPT2_CONFIG)), [1], eos_id, config))


def test_top_k_1_is_greedy_at_any_temperature(monkeypatch, rng):
    logits = rng.normal(size=(10, 64)).astype("float32")
    logits[:, EOS_ID] = -9
    assert drawn(monkeypatch, logits, top_k=1, temperature=3.0) == logits.argmax(axis=1).tolist()
    assert drawn(monkeypatch, logits, temperature=0) == logits.argmax(axis=1).tolist()


def test_it_stops_before_eos(monkeypatch):
    taken = scripted(monkeypatch, [5, 9, EOS_ID, 7])
    assert generated(SamplingConfig(max_new_tokens=8)) == [5, 9]
    assert taken == [5, 9]


def test_it_stops_at_max_new_tokens_without_a_pass_for_a_token_that_nobody_asked_for(monkeypatch):
    taken = scripted(monkeypatch, [5, 9, 2, 7])
    assert list(generate_ids(CachedDecoder(GPT(GPT2_CONFIG)), [1], EOS_ID, SamplingConfig(max_new_tokens=3))) == [
        5,
        9,
        2,
    ]
    assert taken == [5, 9]


def test_the_same_seed_draws_the_same_tokens_and_another_seed_others(monkeypatch):
    logits = np.zeros((12, 64), "float32")
    assert drawn(monkeypatch, logits, seed=1) == drawn(monkeypatch, logits, seed=1)
    assert drawn(monkeypatch, logits, seed=1) != drawn(monkeypatch, logits, seed=2)


def test_the_tokens_of_one_text_are_drawn_independently(monkeypatch):
    """A generator made anew for each token would draw the same one over and over."""
    assert len(set(drawn(monkeypatch, np.zeros((12, 64), "float32"), seed=1))) > 6


def test_a_prompt_is_read_as_the_start_of_a_document(monkeypatch, tokenizer, text_model):
    read = []
    monkeypatch.setattr(generation, "generate_ids", lambda decoder, ids, eos_id, config: read.append(ids) or [])
    generate(CachedDecoder(text_model), tokenizer, "the", SamplingConfig(max_new_tokens=1))
    generate(CachedDecoder(text_model), tokenizer, "", SamplingConfig(max_new_tokens=1))
    assert read == [[tokenizer.eos_id, *tokenizer.encode("the")], [tokenizer.eos_id]]


@pytest.mark.parametrize("max_new_tokens", [1, 5])
def test_prompt_and_new_tokens_must_fit_into_the_context(tokenizer, text_model, max_new_tokens):
    """EOS takes a position too. One token more is refused, however long the prompt is."""
    prompt = "q" * (GPT2_CONFIG.seq_len - 1 - max_new_tokens)
    assert len(tokenizer.encode(prompt)) == len(prompt)
    config = SamplingConfig(max_new_tokens=max_new_tokens, temperature=0)
    assert isinstance(generate(CachedDecoder(text_model), tokenizer, prompt, config), str)
    for longer in (prompt + "q", prompt * 5):
        with pytest.raises(
            UserError, match=f"16 positions, .* {len(longer) + 1} of them, .* {max_new_tokens}: shorten"
        ):
            generate(CachedDecoder(text_model), tokenizer, longer, config)


def test_a_row_of_the_table_that_the_tokenizer_does_not_use_is_never_drawn(monkeypatch):
    """A GPT-2 preset has 50,257 rows whatever the tokenizer has; the text of the others is nowhere."""
    logits = np.zeros((40, 64), "float32")
    logits[:, 21:] = 9
    ids = drawn(monkeypatch, logits, eos_id=20) + drawn(monkeypatch, logits, eos_id=20, temperature=0)
    assert len(ids) > 10
    assert max(ids) < 20


def test_several_texts_of_one_decoder_are_those_of_new_ones_and_compile_two_graphs(tokenizer, text_model, traces):
    decoder, config = CachedDecoder(text_model, jit_compile=False), SamplingConfig(max_new_tokens=4, temperature=0)
    prompts = ("the cat", "q", "the cat sat", "the cat")
    texts = [generate(decoder, tokenizer, prompt, config) for prompt in prompts]
    assert len(traces) == 2
    for prompt, text in zip(prompts, texts, strict=True):
        assert generate(CachedDecoder(text_model, jit_compile=False), tokenizer, prompt, config) == text
    assert len(set(texts)) == 3
