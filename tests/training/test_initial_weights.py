import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoints import save_random
from tiny_models import ALGPT2_CONFIG, GPT2_CONFIG

from algpt2.errors import UserError
from algpt2.model.gpt import GPT
from algpt2.runs.plan import InitialWeights
from algpt2.text.tokenizer import Tokenizer
from algpt2.training.initial_weights import (
    find_initial_weights,
    set_initial_weights,
    with_duplicated_blocks,
    with_new_rows,
)

DEEPER = dataclasses.replace(GPT2_CONFIG, n_layer=3)


@pytest.fixture
def save(records_folder):
    """Writes a checkpoint with the tokenizer of some records."""
    tokenizer = json.loads(Path(records_folder, "tokenizer.json").read_text())
    return functools.partial(save_random, tokenizer=tokenizer)


def initialised(folder, config, duplicate_layers=False):
    model = GPT(config, seed=9)
    tokenizer = Tokenizer.load(folder)
    checkpoint = find_initial_weights(InitialWeights(folder, duplicate_layers), config, tokenizer)
    assert checkpoint.folder == folder
    set_initial_weights(model, checkpoint, tokenizer)
    return {name: parameter.numpy() for name, parameter in model.named_parameters().items()}


@pytest.mark.parametrize("config", [GPT2_CONFIG, ALGPT2_CONFIG], ids=["gpt2", "algpt2"])
def test_every_parameter_is_the_checkpoints(tmp_path, save, config):
    parameters, folder = save(tmp_path / "source", 1, config)
    found = initialised(folder, dataclasses.replace(config, dropout=0.1))
    assert found.keys() == parameters.keys()
    for name, value in parameters.items():
        np.testing.assert_array_equal(found[name], value)


def test_a_model_with_alibi_goes_on_with_longer_sequences(tmp_path, save):
    config = dataclasses.replace(ALGPT2_CONFIG, position_encoding="alibi")
    parameters, folder = save(tmp_path / "source", 1, config)
    assert initialised(folder, dataclasses.replace(config, seq_len=32)).keys() == parameters.keys()


def test_eighteen_blocks_become_twenty_four_by_doubling_every_third():
    tensors = {"wte.weight": np.array(-1), **{f"h.{i}.ln_1.weight": np.array(i) for i in range(18)}}
    deeper = with_duplicated_blocks(tensors, 18, 24)
    sources = [int(deeper[f"h.{j}.ln_1.weight"]) for j in range(24)]
    assert sources[:8] == [0, 0, 1, 2, 3, 3, 4, 5]
    assert sources == [i for i in range(18) for _ in range(2 if i % 3 == 0 else 1)]
    assert deeper["wte.weight"] == -1
    assert len(deeper) == 25


@pytest.mark.parametrize(("source", "expected"), [(GPT2_CONFIG, [0, 0, 1]), (ALGPT2_CONFIG, [0, 0, 0])])
def test_a_deeper_model_takes_blocks_more_than_once(tmp_path, save, source, expected):
    parameters, folder = save(tmp_path / "source", 1, source)
    deeper = dataclasses.replace(source, n_layer=3, share_layers=False)
    found = initialised(folder, deeper, duplicate_layers=True)
    for j, i in enumerate(expected):
        for name in ("attn.c_attn.weight", "ln_2.bias"):
            np.testing.assert_array_equal(found[f"h.{j}.{name}"], parameters[f"h.{i}.{name}"])


@pytest.mark.parametrize(
    ("config", "duplicate_layers", "rule"),
    [
        (DEEPER, False, "must have the model's 3 blocks, and .* has 2: .*--duplicate_layers"),
        (dataclasses.replace(GPT2_CONFIG, n_layer=1), True, "has 2 blocks, the model only 1"),
        (dataclasses.replace(GPT2_CONFIG, d_model=16), False, "must have the model's d_model 16, and .* has 32"),
        (
            dataclasses.replace(GPT2_CONFIG, embedding_size=8),
            False,
            "embedding_size 8, and .* has None",
        ),
        (
            dataclasses.replace(GPT2_CONFIG, position_encoding="alibi"),
            False,
            "position_encoding alibi, and .* has learned",
        ),
        (dataclasses.replace(GPT2_CONFIG, seq_len=32), False, "seq_len 32, and .* has 16"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, save, config, duplicate_layers, rule):
    _, folder = save(tmp_path / "source", 1, GPT2_CONFIG)
    with pytest.raises(UserError, match=rule):
        initialised(folder, config, duplicate_layers)


def test_another_tokenizer_is_refused(tmp_path, save):
    _, folder = save(tmp_path / "source", 1, GPT2_CONFIG)
    with pytest.raises(UserError, match="must have the tokenizer of the training records"):
        find_initial_weights(InitialWeights(folder), GPT2_CONFIG, Tokenizer.train(["other text"], 300))


def test_rows_of_new_ids_are_the_mean_of_the_known_ones_and_no_other_row_changes():
    """Catches: the mean of rows that no id needed, and a row behind the last id, which the head has learnt, changed."""
    table = np.array([[1, 2], [3, 4], [50, 60], [70, 80]], np.float32)
    np.testing.assert_array_equal(with_new_rows(table, 2, 3, 5), [[1, 2], [3, 4], [2, 3], [70, 80], [2, 3]])
    np.testing.assert_array_equal(with_new_rows(table, 2, 2, 4), table)


def test_chat_tokens_may_stand_behind_the_checkpoints_tokens(tmp_path, save):
    config = dataclasses.replace(GPT2_CONFIG, vocab_size=300, untied_head=True)
    parameters, folder = save(tmp_path / "source", 1, config)
    known = Tokenizer.load(folder)
    tokenizer, larger = known.with_chat_tokens(), dataclasses.replace(config, vocab_size=302)
    checkpoint, model = find_initial_weights(InitialWeights(folder), larger, tokenizer), GPT(larger, seed=9)
    set_initial_weights(model, checkpoint, tokenizer)
    new = [known.vocab_size, known.vocab_size + 1, 300, 301]
    for name in ("wte.weight", "lm_head.weight"):
        found = model.named_parameters()[name].numpy()
        mean = parameters[name][: known.vocab_size].mean(axis=0)
        np.testing.assert_allclose(found[new], np.tile(mean, (4, 1)), rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(np.delete(found, new, 0), np.delete(parameters[name], new[:2], 0))


def test_a_smaller_vocabulary_than_the_checkpoints_is_refused(tmp_path, save):
    _, folder = save(tmp_path / "source", 1, dataclasses.replace(GPT2_CONFIG, vocab_size=320))
    with pytest.raises(UserError, match="at most the model's vocab_size 300, and .* has 320: give --vocab_size 320"):
        initialised(folder, dataclasses.replace(GPT2_CONFIG, vocab_size=300))
