"""ALiBi in the place of the position table, against the independent forward pass in NumPy."""

import dataclasses

import keras
import numpy as np
import pytest
from numpy_gpt import forward
from tiny_models import GPT2_CONFIG, randomised
from tiny_step import ONE, TWO, require_equal, train

from algpt2.config.model import GPTConfig
from algpt2.errors import UserError
from algpt2.model.gpt import GPT
from algpt2.model.losses import head_logits

# Three heads, so that a slope comes from the next power of two.
ALIBI_GPT2 = dataclasses.replace(GPT2_CONFIG, position_encoding="alibi", n_head=3, d_model=24)
ALIBI_ALGPT2 = dataclasses.replace(ALIBI_GPT2, embedding_size=8, share_layers=True)
FIRST_SLOTS = np.array([0, 5, 2], np.int32)


def expected_logits(model, ids, **options):
    parameters = {name: parameter.numpy() for name, parameter in model.named_parameters().items()}
    return forward(parameters, ids, model.config.n_layer, model.config.n_head, **options)


def random_ids(rng, *shape):
    return rng.integers(GPT2_CONFIG.vocab_size - 1, size=shape).astype("int32")


def cached_logits(model, ids, chunk):
    """The logits of rows that begin in `FIRST_SLOTS`, taken in a few slots at a time."""
    cache, parts = model.empty_cache(len(ids), ids.shape[1]), []
    for slot in range(0, ids.shape[1], chunk):
        hidden, cache = model.call_with_cache(ids[:, slot : slot + chunk], cache, slot, FIRST_SLOTS)
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


@pytest.mark.parametrize("config", [ALIBI_GPT2, ALIBI_ALGPT2], ids=["gpt2", "algpt2"])
@pytest.mark.parametrize("length", [16, 32], ids=["trained length", "twice as long"])
def test_logits_with_alibi_are_those_of_numpy_at_any_length(rng, config, length):
    model, ids = randomised(config), random_ids(rng, 2, length)
    expected = expected_logits(model, ids)
    assert np.abs(model(ids).numpy() - expected).max() <= 1e-4
    assert np.abs(expected).max() > 1


def test_cached_tokens_with_alibi_have_the_logits_of_the_whole_text_wherever_its_row_begins(rng):
    """Texts begin in three slots and go on beyond the trained length."""
    model, ids = randomised(ALIBI_ALGPT2), random_ids(rng, 3, 24)
    found = cached_logits(model, ids, chunk=7)
    for row, first in enumerate(FIRST_SLOTS):
        expected = expected_logits(model, ids[row : row + 1, first:])[0]
        assert np.abs(found[row, first:] - expected).max() <= 1e-4


def test_two_replicas_with_rematerialised_blocks_train_alibi_as_one_replica_does():
    expected = train(ONE, ALIBI_ALGPT2, n_steps=2, jit_compile=False)
    require_equal(train(TWO, ALIBI_ALGPT2, n_steps=2, jit_compile=False, remat="block"), expected)


def test_a_keras_file_keeps_alibi(rng, tmp_path):
    model, ids = randomised(ALIBI_GPT2), random_ids(rng, 1, 32)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(ids), model(ids))


@pytest.mark.parametrize("value", ["rotary", None, 1])
def test_another_position_encoding_is_refused(value):
    with pytest.raises(UserError, match="position_encoding must be one of learned, alibi, received"):
        GPTConfig(position_encoding=value)
