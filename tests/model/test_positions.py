"""ALiBi in the place of the position table, and attention within documents, against the independent forward pass."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy_gpt import Variant, forward
from tiny_models import GPT2_CONFIG, randomised
from tiny_step import ONE, TWO, random_rows, require_equal, train

from algpt2.config.model import GPTConfig
from algpt2.errors import UserError
from algpt2.model import attention
from algpt2.model.gpt import GPT
from algpt2.model.losses import head_logits, token_nats

EOS_ID = 63
# Three heads, so that a slope comes from the next power of two.
ALIBI = dataclasses.replace(GPT2_CONFIG, position_encoding="alibi", n_head=3, d_model=24)
ALIBI_ALGPT2 = dataclasses.replace(ALIBI, embedding_size=8, share_layers=True)
MASKED = dataclasses.replace(GPT2_CONFIG, document_eos_id=EOS_ID)
BOTH = dataclasses.replace(ALIBI_ALGPT2, document_eos_id=EOS_ID)
FIRST_SLOTS = np.array([0, 5, 2], np.int32)
# Where the documents of a row of 24 begin; the first is what the row before has left of its document.
STARTS = (0, 3, 4, 13)


def random_ids(rng, *shape):
    return rng.integers(EOS_ID, size=shape).astype("int32")


def packed_rows(rng, rows):
    """Rows of 24 ids, with EOS in front of every document but the first."""
    ids = random_ids(rng, rows, 24)
    ids[:, STARTS[1:]] = EOS_ID
    return ids


def expected_logits(model, ids):
    parameters = {name: parameter.numpy() for name, parameter in model.named_parameters().items()}
    variant = Variant(eos_id=model.config.document_eos_id)
    return forward(parameters, ids, model.config.n_layer, model.config.n_head, variant)


def cached_logits(model, ids, chunk):
    """The logits of rows that begin in `FIRST_SLOTS`, taken in a few slots at a time."""
    cache, parts, documents = model.empty_cache(len(ids), ids.shape[1]), [], model.documents_of(ids)
    for slot in range(0, ids.shape[1], chunk):
        hidden, cache = model.call_with_cache(ids[:, slot : slot + chunk], cache, slot, FIRST_SLOTS, documents)
        parts.append(head_logits(hidden, model.wte).numpy())
    return np.concatenate(parts, axis=1)


def test_a_model_with_alibi_has_a_gpt2s_parameters_but_for_the_table_of_positions():
    """The first number is that of fattorib's model of 580M."""
    shape = {"vocab_size": 50304, "n_layer": 18, "d_model": 1536}
    assert GPTConfig(**shape, position_encoding="alibi").parameter_count() == 587_237_376
    model = GPT(ALIBI_ALGPT2)
    table = ALIBI_ALGPT2.seq_len * ALIBI_ALGPT2.table_width
    learned = dataclasses.replace(ALIBI_ALGPT2, position_encoding="learned")
    assert model.count_params() == ALIBI_ALGPT2.parameter_count() == learned.parameter_count() - table
    assert list(model.named_parameters()) == [name for name in GPT(learned).named_parameters() if name != "wpe.weight"]


@pytest.mark.parametrize("config", [ALIBI, ALIBI_ALGPT2], ids=["gpt2", "algpt2"])
@pytest.mark.parametrize("length", [16, 32], ids=["trained length", "twice as long"])
def test_logits_with_alibi_are_those_of_numpy_at_any_length(rng, config, length):
    model, ids = randomised(config), random_ids(rng, 2, length)
    expected = expected_logits(model, ids)
    assert np.abs(model(ids).numpy() - expected).max() <= 1e-4
    assert np.abs(expected).max() > 1


@pytest.mark.parametrize("config", [dataclasses.replace(MASKED, seq_len=24), BOTH], ids=["learned", "alibi"])
def test_logits_within_documents_are_those_of_numpy(rng, config):
    model, ids = randomised(config), packed_rows(rng, 2)
    expected = expected_logits(model, ids)
    assert np.abs(model(ids).numpy() - expected).max() <= 1e-4


@pytest.mark.parametrize("config", [ALIBI_ALGPT2, BOTH], ids=["alibi", "documents too"])
def test_cached_tokens_have_the_logits_of_the_whole_text_wherever_its_row_begins(rng, config):
    """Texts begin in three slots and go on beyond the trained length; with documents, some borders are among them."""
    model, ids = randomised(config), packed_rows(rng, 3)
    found = cached_logits(model, ids, chunk=7)
    for row, first in enumerate(FIRST_SLOTS):
        expected = expected_logits(model, ids[row : row + 1, first:])[0]
        assert np.abs(found[row, first:] - expected).max() <= 1e-4


def hidden_states_and_gradients(model, ids, targets):
    """What the head is applied to, and the gradient of the sum of all losses by each parameter."""
    parameters = model.named_parameters()
    with tf.GradientTape() as tape:
        hidden = model.hidden_states(ids, training=True)
        loss = tf.reduce_sum(token_nats(head_logits(hidden, model.wte), targets))
    gradients = tape.gradient(loss, [parameter.value for parameter in parameters.values()])
    return hidden.numpy(), dict(zip(parameters, (tf.convert_to_tensor(one).numpy() for one in gradients), strict=True))


def alone(model, start, ids, targets):
    """What a document gives in a row of its own, at the positions that it has in the packed row."""
    at_start = GPT(model.config)
    at_start.copy_parameters(model)
    if model.config.n_position_rows:
        at_start.wpe.assign(np.roll(model.wpe.numpy(), -start, axis=0))
    hidden, gradients = hidden_states_and_gradients(at_start, ids, targets)
    if "wpe.weight" in gradients:
        gradients["wpe.weight"] = np.roll(gradients["wpe.weight"], start, axis=0)
    return hidden, gradients


@pytest.mark.parametrize("config", [dataclasses.replace(MASKED, seq_len=24), BOTH], ids=["learned", "alibi"])
def test_a_packed_row_is_its_documents_one_by_one_forward_and_backward(rng, monkeypatch, config):
    monkeypatch.setattr(attention, "BLOCK_LENGTH", 8)
    model, ids, targets = randomised(config), packed_rows(rng, 1), random_ids(rng, 1, 24)
    hidden, gradients = hidden_states_and_gradients(model, ids, targets)
    spans = [slice(start, end) for start, end in zip(STARTS, (*STARTS[1:], 24), strict=True)]
    documents = [alone(model, span.start, ids[:, span], targets[:, span]) for span in spans]
    np.testing.assert_allclose(hidden, np.concatenate([one for one, _ in documents], axis=1), atol=2e-6)
    for name, gradient in gradients.items():
        expected = sum(of_document[name] for _, of_document in documents)
        assert np.linalg.norm(gradient - expected) <= 1e-5 * np.linalg.norm(expected) + 1e-6, name


def test_eight_blocks_of_a_row_of_2048_are_one_large_block(rng, monkeypatch):
    config = dataclasses.replace(BOTH, seq_len=2048, n_layer=1)
    ids = random_ids(rng, 1, 2048)
    ids[:, [300, 1000, 1001]] = EOS_ID
    model = randomised(config)
    hidden, gradients = hidden_states_and_gradients(model, ids, np.roll(ids, -1))
    monkeypatch.setattr(attention, "BLOCK_LENGTH", 2048)
    expected, expected_gradients = hidden_states_and_gradients(model, ids, np.roll(ids, -1))
    np.testing.assert_allclose(hidden, expected, atol=1e-5)
    for name, gradient in gradients.items():
        assert np.linalg.norm(gradient - expected_gradients[name]) <= 1e-4 * np.linalg.norm(gradient) + 1e-6, name


def test_two_replicas_with_rematerialised_blocks_train_both_as_one_replica_does():
    expected = train(ONE, BOTH, n_steps=2, jit_compile=False)
    require_equal(train(TWO, BOTH, n_steps=2, jit_compile=False, remat="block"), expected)
    assert (random_rows()[:16, 1:16] == EOS_ID).any(), "no row has two documents"


def test_a_keras_file_keeps_both(rng, tmp_path):
    model, ids = randomised(BOTH), packed_rows(rng, 1)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(ids), model(ids))


@pytest.mark.parametrize("value", ["rotary", None, 1])
def test_another_position_encoding_is_refused(value):
    with pytest.raises(UserError, match="position_encoding must be one of learned, alibi, received"):
        GPTConfig(position_encoding=value)


@pytest.mark.parametrize("value", [-1, 64, True, 1.0])
def test_an_eos_that_is_no_id_is_refused(value):
    with pytest.raises(UserError, match="document_eos_id must be an id below vocab_size 64, received"):
        GPTConfig(vocab_size=64, document_eos_id=value)
