import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from numpy_gpt import forward
from tiny_models import ALGPT2_CONFIG
from tiny_step import ONE, TWO, strategy_of

from algpt2.evaluation.validation import Validator
from algpt2.model.gpt import GPT
from algpt2.model.losses import inputs_and_targets
from algpt2.records.record_set import open_record_set
from algpt2.records.tfrecords import read_records

CONFIG = dataclasses.replace(ALGPT2_CONFIG, vocab_size=300, dropout=0.5)


@pytest.fixture
def val_set(records_folder):
    return open_record_set([records_folder], "val")


def validate(val_set, devices=ONE, batch_size=8):
    strategy = strategy_of(devices)
    with strategy.scope():
        model = GPT(CONFIG)
    return Validator(strategy, model, val_set, batch_size, jit_compile=False), model


def test_the_loss_is_that_of_the_independent_model_over_every_record_without_dropout(val_set):
    validator, model = validate(val_set)
    records = np.array(
        [record for file in val_set.files for record in read_records(file, val_set.seq_len, val_set.vocab_size)]
    )
    inputs, targets = inputs_and_targets(records)
    parameters = {name: parameter.numpy() for name, parameter in model.named_parameters().items()}
    logits = forward(parameters, inputs, CONFIG.n_layer, CONFIG.n_head)
    log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -np.take_along_axis(log_probabilities, targets[..., None], -1).sum()
    loss = validator()
    assert loss.total_nats == pytest.approx(expected, rel=1e-5)
    assert loss.tokens == targets.size


@pytest.mark.parametrize(("devices", "batch_size"), [(ONE, 3), (ONE, 64), (TWO, 6)])
def test_the_loss_does_not_depend_on_batch_size_or_replicas(val_set, devices, batch_size):
    """Catches padded rows that count, and replicas that are averaged."""
    expected = validate(val_set)[0]()
    loss = validate(val_set, devices, batch_size)[0]()
    assert loss.total_nats == pytest.approx(expected.total_nats, rel=1e-5)
    assert (loss.tokens, loss.text_bytes) == (expected.tokens, expected.text_bytes)


def test_the_metrics_are_those_of_the_model_at_the_time_of_the_call(val_set):
    validator, model = validate(val_set)
    before = validator().as_metrics()
    for parameter in model.named_parameters().values():
        parameter.assign(tf.zeros(parameter.shape))
    uniform = validator().as_metrics()
    assert uniform["val_loss"] == pytest.approx(np.log(300), rel=1e-6) != before["val_loss"]
    assert uniform["val_perplexity"] == pytest.approx(300, rel=1e-5)
    tokens = val_set.records * val_set.seq_len
    assert uniform["val_bits_per_byte"] == pytest.approx(tokens * np.log2(300) / val_set.target_bytes, rel=1e-6)
