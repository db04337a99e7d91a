"""Keras' own way: `compile`, `fit`, `model.save` and `keras.saving.load_model`, on one device."""

import dataclasses
import inspect
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from places import REPOSITORY
from tiny_models import ALGPT2_CONFIG, GPT2_CONFIG, randomised

from algpt2.config.training import TrainConfig
from algpt2.model.gpt import GPT
from algpt2.optim import Adafactor, AdamW, Muon, TokensCosine, WarmupDecay
from algpt2.optim.create import create_optimizer

RECORDS = np.random.default_rng(0).integers(64, size=(16, 17)).astype("int32")
# Every argument of each constructor, none at its default.
KERAS_ARGUMENTS = {"weight_decay": 0.1, "global_clipnorm": 1.0, "ema_decay": 0.9, "decayed": [True, False]}
COSINE = {"peak": 0.2, "warmup_steps": 1.5, "total_steps": 9, "decay": "wsd", "final_fraction": 0.1}
ARGUMENTS = {
    WarmupDecay: {**COSINE, "cooldown_steps": 3, "cooldown_shape": "1-sqrt"},
    TokensCosine: {"peak": 0.2, "warmup_steps": 1.5, "decay_steps": 7.5, "final_fraction": 0.1},
    AdamW: {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-6, "name": "a"},
    Muon: {"matrices": [0, 3], "momentum": 0.8, "beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-6, "name": "m"},
    Adafactor: {
        **{"beta_1": 0.8, "decay_exponent": -0.7, "clip_threshold": 2.0, "multiply_by_parameter_scale": False},
        **{"relative_step": True, "min_dim_size_to_factor": 4, "epsilon_1": 1e-20, "epsilon_2": 1e-2, "name": "f"},
    },
}


def compiled(model, optimizer):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=optimizer, loss=loss, jit_compile=False)
    return model


def fitted(model):
    """Trains for an epoch, always on the same batches in the same order; returns a list of its loss."""
    inputs, targets = RECORDS[:, :-1], RECORDS[:, 1:]
    return model.fit(inputs, targets, batch_size=8, shuffle=False, verbose=0).history["loss"]


def values(variables):
    return [np.array(variable.numpy()) for variable in variables]


def assert_same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_a_model_comes_back_from_a_keras_file_bit_for_bit(tiny_config, dtype, tmp_path):
    model = randomised(tiny_config, dtype=dtype)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert (type(loaded), loaded.config, loaded.compute_dtype) == (GPT, tiny_config, model.compute_dtype)
    assert_same(values(loaded.named_parameters().values()), values(model.named_parameters().values()))
    np.testing.assert_array_equal(loaded(RECORDS[:, :9]), model(RECORDS[:, :9]))


TRAININGS = {
    "adamw": (GPT2_CONFIG, {"weight_decay": 0.1, "ema_decay": 0.9, "decay": "wsd", "cooldown_fraction": 0.5}),
    "muon": (GPT2_CONFIG, {"weight_decay": 0.1, "decay": "cosine"}),
    "adafactor": (
        dataclasses.replace(ALGPT2_CONFIG, dropout=0.1),
        {
            **{"min_dim_size_to_factor": 16, "beta_1": 0.9, "learning_rate": 0.5},
            **{"decay": "tokens_cosine", "decay_tokens": 9999},
        },
    ),
}


@pytest.mark.parametrize("optimizer", TRAININGS)
def test_fit_trains_and_goes_on_from_a_keras_file_as_if_it_had_not_ended(optimizer, tmp_path):
    """Moments, update count, schedule, which parameters decay, and the seeds of the dropout masks come back."""
    config, options = TRAININGS[optimizer]
    options = {"total_steps": 8, "warmup_steps": 3, "learning_rate": 0.05, **options}
    model = GPT(config)
    compiled(model, create_optimizer(TrainConfig(optimizer=optimizer, **options), model))
    (first_loss,) = fitted(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.optimizer) is type(model.optimizer)
    assert (losses := fitted(loaded)) == fitted(model)
    assert losses[0] < first_loss
    assert_same(values(loaded.variables), values(model.variables))
    assert_same(values(loaded.optimizer.variables), values(model.optimizer.variables))


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_a_config_holds_every_argument_of_the_constructor(kind):
    arguments = dict(ARGUMENTS[kind])
    if issubclass(kind, keras.optimizers.Optimizer):
        arguments |= {"learning_rate": 0.25, **KERAS_ARGUMENTS}
    named = {p.name for p in inspect.signature(kind).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD}
    assert named <= set(arguments), "this test gives every argument"
    made = kind(**arguments)
    for one in (made, kind.from_config(made.get_config())):
        assert {name: one.get_config()[name] for name in arguments} == arguments


@pytest.mark.parametrize("part", ["h", "attn", "mlp"])
def test_the_layers_of_a_model_are_known_to_keras(part):
    block = GPT(ALGPT2_CONFIG, dtype="mixed_bfloat16").h[0]
    layer = block if part == "h" else getattr(block, part)
    made = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(made) is type(layer)
    assert made.get_config() == layer.get_config()
    assert [v.shape for v in made.variables] == [v.shape for v in layer.variables]


def test_the_example_of_the_guide_runs(tmp_path, monkeypatch):
    """It ends by comparing the loss of the model that came back with that of the one that was trained."""
    monkeypatch.chdir(tmp_path)
    text = (REPOSITORY / "docs" / "guide" / "keras.md").read_text(encoding="utf-8")
    example = re.search(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[1]
    names: dict = {}
    exec(compile(example, "docs/guide/keras.md", "exec"), names)
    losses = names["history"].history["loss"]
    assert losses[-1] < losses[0] - 0.1
    assert_same(values(names["again"].variables), values(names["model"].variables))


def test_a_new_process_reads_a_compiled_model_once_it_has_imported_gpt(tmp_path):
    model = compiled(GPT(ALGPT2_CONFIG), AdamW(WarmupDecay(0.1, 2, 9, "cosine", 0.1)))
    model.save(tmp_path / "model.keras")
    program = (
        "from algpt2 import GPT; import keras; "
        f"print(keras.saving.load_model({str(tmp_path / 'model.keras')!r}).optimizer.get_config()['learning_rate'])"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True)
    assert "WarmupDecay" in ended.stdout, ended.stderr
