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
from algpt2.training.initial_weights import find_initial_weights, set_initial_weights, with_duplicated_blocks

DEEPER = dataclasses.replace(GPT2_CONFIG, n_layer=3)


@pytest.fixture
def save(records_folder):
    """Writes a checkpoint with the tokenizer of some records."""
    tokenizer = json.loads(Path(records_folder, "tokenizer.json").read_text())
    return functools.partial(save_random, tokenizer=tokenizer)


def initialised(folder, config, duplicate_layers=False):
    model = GPT(config, seed=9)
    sha256 = Tokenizer.load(folder).sha256
    checkpoint = find_initial_weights(InitialWeights(folder, duplicate_layers), config, sha256)
    assert checkpoint.folder == folder
    set_initial_weights(model, checkpoint)
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
        find_initial_weights(InitialWeights(folder), GPT2_CONFIG, "ab" * 32)
