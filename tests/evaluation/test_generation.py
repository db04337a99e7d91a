"""Generation with a key-value cache: the text of a loop without one, from one graph, whatever else is in the batch."""

import dataclasses

import numpy as np
import pytest
from tiny_models import GPT2_CONFIG

from algpt2.config.sampling import GenerationConfig, SamplingConfig
from algpt2.errors import UserError
from algpt2.evaluation.decoding import CHUNK_SLOTS, Drawing, continue_prompts, n_slots_for
from algpt2.evaluation.generated_texts import TextGenerator
from algpt2.evaluation.generation import CachedDecoder, Row, generate, generate_ids
from algpt2.model.gpt import GPT
from algpt2.text.tokenizer import Tokenizer

EOS_ID = GPT2_CONFIG.vocab_size - 1
GREEDY = SamplingConfig(max_new_tokens=9, temperature=0)
# Each at its place in the loop: a penalty needs the tokens so far, a filter the logits, a seed the number of the token.
MIXED = SamplingConfig(max_new_tokens=9, top_k=40, top_p=0.95, min_p=0.01, repetition_penalty=1.2, seed=3)


def randomised(config):
    """A model whose predictions depend strongly on their context, so that it does not repeat itself."""
    model, rng = GPT(config), np.random.default_rng(7)
    for name, parameter in model.named_parameters().items():
        is_kernel = len(parameter.shape) == 2 and not name.startswith("w")
        scale = parameter.shape[0] ** -0.5 if is_kernel else 0.1 if name.endswith("bias") else 1.0
        parameter.assign(rng.normal(scale=scale, size=parameter.shape))
    return model


@pytest.fixture(scope="module")
def model():
    return randomised(dataclasses.replace(GPT2_CONFIG, embedding_size=8, share_layers=True))


@pytest.fixture(scope="module")
def decoder(model):
    """A decoder whose graphs have one shape of cache, so that few are made."""
    return CachedDecoder(model, jit_compile=False, least_tokens=16)


@pytest.fixture
def ids():
    return np.random.default_rng(0).integers(EOS_ID, size=GPT2_CONFIG.seq_len).tolist()


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(["the cat sat on the mat"] * 3, 260)


@pytest.fixture(scope="module")
def text_model(tokenizer):
    return randomised(dataclasses.replace(GPT2_CONFIG, vocab_size=tokenizer.vocab_size))


def greedy_loop(model, prompt, n_tokens, eos_id=EOS_ID):
    """The likeliest tokens, each from a pass over all before it, up to EOS."""
    ids = list(prompt)
    for _ in range(n_tokens):
        ids.append(int(np.argmax(model(np.array([ids], np.int32)).numpy()[0, -1, : eos_id + 1])))
        if ids[-1] == eos_id:
            return ids[len(prompt) : -1]
    return ids[len(prompt) :]


def constant_model(logits, vocab_size=64):
    """A model whose next token has these logits, whatever stands before it."""
    model = GPT(dataclasses.replace(GPT2_CONFIG, vocab_size=vocab_size))
    names = model.named_parameters()
    names["ln_f.weight"].assign(np.zeros(32))
    names["ln_f.bias"].assign(np.eye(32)[0])
    table = np.zeros((vocab_size, 32))
    table[:, 0] = logits
    names["wte.weight"].assign(table)
    return model


@pytest.mark.parametrize("n_prompt", [1, 2, 4, 7])
def test_greedy_generation_is_an_uncached_greedy_loop_after_a_prompt_of_any_length(model, decoder, ids, n_prompt):
    expected = greedy_loop(model, ids[:n_prompt], 9)
    assert len(set(expected)) > 2, "choose another model: this one repeats itself"
    assert list(generate_ids(decoder, ids[:n_prompt], EOS_ID, GREEDY)) == expected


def test_compiled_by_xla_it_is_the_uncached_loop_too(ids):
    model = randomised(GPT2_CONFIG)
    (found,) = CachedDecoder(model).continued([Row(ids[:6])], EOS_ID, GREEDY)
    assert found == greedy_loop(model, ids[:6], 9)


def test_a_prompt_of_several_chunks_is_taken_in_as_a_whole(ids):
    """The cache ends within a fifth chunk, and the rows begin in the first and in the fourth."""
    config = dataclasses.replace(GPT2_CONFIG, seq_len=4 * CHUNK_SLOTS + 44, n_layer=1)
    model = randomised(config)
    long = np.random.default_rng(1).integers(EOS_ID, size=4 * CHUNK_SLOTS + 40).tolist()
    decoder, greedy = CachedDecoder(model, jit_compile=False), SamplingConfig(max_new_tokens=3, temperature=0)
    found = decoder.continued([Row(long), Row(long[:80])], EOS_ID, greedy)
    assert found == [greedy_loop(model, long, 3), greedy_loop(model, long[:80], 3)]


@pytest.mark.parametrize("config", [GREEDY, MIXED], ids=["greedy", "mixed"])
def test_a_text_does_not_depend_on_the_batch_or_on_the_pieces_it_is_made_in(decoder, ids, config):
    rows = [Row(ids[:7]), Row(ids[3:5], 1), None, Row(ids[:1], 4)]
    together = decoder.continued(rows, EOS_ID, config)
    alone = [decoder.continued([row], EOS_ID, config)[0] if row else [] for row in rows]
    pieces = list(decoder.pieces(rows, EOS_ID, config, piece_tokens=4))
    assert together == alone
    assert together[0] == list(generate_ids(decoder, ids[:7], EOS_ID, config))
    assert [sum(parts, []) for parts in zip(*pieces, strict=True)] == together
    assert together[2] == []
    assert decoder.continued([rows[3], rows[1], rows[0], rows[0]], EOS_ID, config)[:3] == [
        together[3],
        together[1],
        together[0],
    ]


def test_samples_of_one_prompt_differ_and_the_seed_decides_them(decoder, ids):
    rows = [Row(ids[:5], sample) for sample in range(4)]
    first, again = (decoder.continued(rows, EOS_ID, MIXED) for _ in range(2))
    other = decoder.continued(rows, EOS_ID, dataclasses.replace(MIXED, seed=4))
    assert first == again
    assert len({tuple(text) for text in [*first, *other]}) == 8


def test_the_repetition_penalty_knows_prompt_and_text_and_no_other_row():
    """Logits fall by one from token to token, so that a penalty of 100 leaves each token to be taken once."""
    model = constant_model(np.linspace(8, 1, 64))
    config = SamplingConfig(max_new_tokens=5, temperature=0, repetition_penalty=100.0)
    found = CachedDecoder(model, jit_compile=False).continued([Row([1, 3]), Row([0])], EOS_ID, config)
    assert found == [[0, 2, 4, 5, 6], [1, 2, 3, 4, 5]]


def test_each_row_stops_before_its_eos():
    logits = np.full(64, -np.inf)
    logits[[5, EOS_ID]] = 0
    decoder = CachedDecoder(constant_model(np.where(np.isfinite(logits), 0, -1e9)), jit_compile=False)
    rows = [Row([1], sample) for sample in range(16)]
    texts = decoder.continued(rows, EOS_ID, SamplingConfig(max_new_tokens=12))
    lengths = [len(text) for text in texts]
    assert {token for text in texts for token in text} == {5}
    assert min(lengths) == 0
    assert len(set(lengths)) > 3


def test_it_makes_as_many_tokens_as_are_asked_for_and_no_pass_for_another(monkeypatch):
    """In TensorFlow's eager mode, the passes can be counted."""
    import tensorflow as tf

    passes, call = [], GPT.call_with_cache
    monkeypatch.setattr(GPT, "call_with_cache", lambda *arguments: passes.append(1) or call(*arguments))
    decoder = CachedDecoder(constant_model(np.zeros(64)), jit_compile=False)
    tf.config.run_functions_eagerly(True)
    try:
        (text,) = decoder.continued([Row([1])], EOS_ID, SamplingConfig(max_new_tokens=4, temperature=0))
    finally:
        tf.config.run_functions_eagerly(False)
    assert (len(text), len(passes)) == (4, 4)


@pytest.mark.parametrize("temperature", [0, 1])
def test_a_row_of_the_table_that_the_tokenizer_does_not_use_is_never_drawn(temperature):
    """A GPT-2 preset has 50,257 rows whatever the tokenizer has; the text of the others is nowhere."""
    decoder = CachedDecoder(constant_model([-1e9] + [0] * 21 + [9] * 42), jit_compile=False)
    config = SamplingConfig(max_new_tokens=12, temperature=temperature)
    texts = decoder.continued([Row([1], sample) for sample in range(4)], 21, config)
    assert sum(map(len, texts)) > 6
    assert max(token for text in texts for token in text) < 21


@pytest.mark.parametrize(("n_tokens", "n_slots"), [(1, 256), (256, 256), (257, 512), (1024, 1024)])
def test_the_cache_has_slots_for_the_text_that_is_asked_for_rounded_up_to_a_quarter(n_tokens, n_slots):
    assert n_slots_for(n_tokens, 1024) == n_slots
    cache = GPT(GPT2_CONFIG).empty_cache(3, n_slots)
    assert [part.shape for layer in cache for part in layer] == [(3 * 2, n_slots, 16)] * 4


def test_prompts_of_all_lengths_have_four_graphs_at_most_and_one_where_the_longest_is_known(model, ids):
    decoder, greedy = CachedDecoder(model, jit_compile=False), SamplingConfig(max_new_tokens=2, temperature=0)
    for n_prompt in range(1, 15):
        decoder.continued([Row(ids[:n_prompt])], EOS_ID, greedy)
    assert decoder.graph_count() == 4
    known = CachedDecoder(model, jit_compile=False, least_tokens=16)
    for n_prompt in (1, 3, 9, 14):
        known.continued([Row(ids[:n_prompt])], EOS_ID, dataclasses.replace(greedy, max_new_tokens=1, seed=n_prompt))
    assert known.graph_count() == 1


def test_compiling_before_leaves_nothing_to_compile(model, ids):
    decoder = CachedDecoder(model, jit_compile=False)
    decoder.compile([Row(ids[:4])], EOS_ID, GREEDY)
    assert decoder.graph_count() == 1
    assert decoder.continued([Row(ids[:4])], EOS_ID, GREEDY) == [greedy_loop(decoder.model, ids[:4], 9)]
    assert decoder.graph_count() == 1


def test_an_exported_function_continues_any_number_of_rows_as_the_decoder_does(model, decoder, ids, tmp_path):
    import tensorflow as tf

    module = tf.Module()
    module.variables_of_model = model.variables
    module.generate = tf.function(
        lambda *inputs: continue_prompts(model, *inputs, Drawing(EOS_ID, MIXED)),
        [tf.TensorSpec(shape, tf.int32) for shape in ((None, 16), (None,), (), ())],
        autograph=False,
    )
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    prompts = np.zeros((2, 16), np.int32)
    prompts[0, :8], prompts[1, :3] = ids[:8], ids[8:11]
    found = loaded.generate(prompts, np.array([8, 3], np.int32), 6, MIXED.seed).numpy()[:, 8:14].tolist()
    config = dataclasses.replace(MIXED, max_new_tokens=6)
    expected = decoder.continued([Row(ids[:8]), Row(ids[8:11])], EOS_ID, config)
    assert found == [text + [EOS_ID] * (6 - len(text)) for text in expected]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("penalty", [1.0, 1.5])
def test_greedy_ids_are_those_of_hugging_face(penalty, ids):
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    model = randomised(GPT2_CONFIG)
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=64, n_positions=16, n_embd=32, n_layer=2, n_head=2)
    ).eval()
    state = {f"transformer.{name}": torch.from_numpy(p.numpy()) for name, p in model.named_parameters().items()}
    theirs.load_state_dict({**state, "lm_head.weight": state["transformer.wte.weight"]})
    config = SamplingConfig(max_new_tokens=9, temperature=0, repetition_penalty=penalty)
    flags = {"repetition_penalty": penalty, "do_sample": False, "eos_token_id": EOS_ID, "pad_token_id": EOS_ID}
    expected = theirs.generate(torch.tensor([ids[:5]]), max_new_tokens=9, **flags)[0, 5:].tolist()
    assert CachedDecoder(model, jit_compile=False).continued([Row(ids[:5])], EOS_ID, config) == [
        expected[: expected.index(EOS_ID)] if EOS_ID in expected else expected
    ]


def test_a_prompt_is_read_as_the_start_of_a_document(monkeypatch, tokenizer, text_model):
    read = []
    monkeypatch.setattr(CachedDecoder, "continued", lambda self, rows, *_: read.append(rows[0].ids) or [[]])
    generate(CachedDecoder(text_model), tokenizer, "the", SamplingConfig(max_new_tokens=1))
    generate(CachedDecoder(text_model), tokenizer, "", SamplingConfig(max_new_tokens=1))
    assert read == [[tokenizer.eos_id, *tokenizer.encode("the")], [tokenizer.eos_id]]


@pytest.mark.parametrize("max_new_tokens", [1, 5])
def test_prompt_and_new_tokens_must_fit_into_the_context(tokenizer, text_model, max_new_tokens):
    """EOS takes a position too. One token more is refused, however long the prompt is."""
    prompt = "q" * (GPT2_CONFIG.seq_len - 1 - max_new_tokens)
    assert len(tokenizer.encode(prompt)) == len(prompt)
    config = SamplingConfig(max_new_tokens=max_new_tokens, temperature=0)
    decoder = CachedDecoder(text_model, jit_compile=False)
    assert isinstance(generate(decoder, tokenizer, prompt, config), str)
    for longer in (prompt + "q", prompt * 5):
        with pytest.raises(
            UserError, match=f"16 positions, .* {len(longer) + 1} of them, .* {max_new_tokens}: shorten"
        ):
            generate(decoder, tokenizer, longer, config)


@pytest.fixture
def generator(tokenizer, text_model):
    """Makes three texts of a prompt, two at once, drawn from all bytes, so that most characters are damaged."""
    decoder = CachedDecoder(text_model, jit_compile=False)
    return TextGenerator(decoder, tokenizer, SamplingConfig(max_new_tokens=10), GenerationConfig(3, batch_size=2))


def test_texts_come_in_order_and_are_those_of_a_stream(generator):
    prompts = ["the cat", "q", "the cat"]
    texts = generator.texts(prompts)
    assert [(text.prompt, text.sample) for text in texts] == [(p, s) for p in prompts for s in range(3)]
    assert texts[:3] == texts[6:]
    assert len({text.text for text in texts}) == 6
    assert ["".join(generator.stream(text.prompt, text.sample)) for text in texts[:6]] == [t.text for t in texts[:6]]
    assert all(text.new_tokens == 10 or text.is_ended for text in texts)
    assert generator.tokens_per_second() > 0


def test_a_stream_never_shows_a_part_of_a_character(monkeypatch, tokenizer, generator):
    """Each of the bytes is a token, and one of them is in no character."""
    ids = [id_ for character in "a\u00e9\U0001f600b" for id_ in tokenizer.encode(character)]
    stray = tokenizer.encode("\u00e9")[:1]
    pieces = [[[id_]] for id_ in [*ids, *stray, *tokenizer.encode("c"), *stray]]
    monkeypatch.setattr(CachedDecoder, "pieces", lambda *_: iter(pieces))
    shown = list(generator.stream("", 0))
    assert shown == ["a", "", "\u00e9", "", "", "", "\U0001f600", "b", "", "\ufffdc", "", "\ufffd"]


def test_a_prompt_that_does_not_fit_is_refused_before_a_stream_begins(generator):
    with pytest.raises(UserError, match="must fit into the model's 16 positions"):
        generator.stream("q" * 10, 0)
