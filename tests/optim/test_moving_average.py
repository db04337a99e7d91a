import numpy as np
import pytest
import tensorflow as tf
from tiny_checkpoints import TOKENIZER_JSON, model_and_optimizer
from tiny_models import ALGPT2_CONFIG

from algpt2.checkpoints.folder import CheckpointState, checkpoint_folder
from algpt2.checkpoints.save_load import load_model, save_checkpoint, take_snapshot
from algpt2.config.training import TrainConfig
from algpt2.errors import UserError
from algpt2.optim.moving_average import averaged_weights, unbiased_averages

CONFIG = TrainConfig(total_steps=3, ema_decay=0.5)


def trained(config=CONFIG):
    """A model whose weights were 1, then 2, then 4, in three updates, and its optimizer."""
    model, optimizer = model_and_optimizer(ALGPT2_CONFIG, config=config)
    for parameter, average in zip(optimizer.slots["ema"], model.named_parameters().values(), strict=True):
        parameter.assign(np.full(parameter.shape, 0.5 * (0.5 * 0.5 * 1 + 0.5 * 2) + 0.5 * 4))
        average.assign(np.full(average.shape, 4.0))
    optimizer.iterations.assign(3)
    return model, optimizer


def values(model):
    return sorted({float(x) for parameter in model.named_parameters().values() for x in np.unique(parameter.numpy())})


EXPECTED = (0.25 * 1 + 0.5 * 2 + 1 * 4) / 1.75


def test_the_average_of_equal_weights_is_that_weight_after_any_number_of_updates():
    for updates in (1, 2, 100):
        slot = np.float32(0)
        for _ in range(updates):
            slot = np.float32(0.99) * slot + np.float32(0.01) * np.float32(3)
        assert unbiased_averages({"w": slot}, 0.99, updates)["w"] == pytest.approx(3.0, rel=1e-5)


def test_the_model_has_the_average_inside_the_block_and_its_own_weights_after_it():
    model, optimizer = trained()
    with averaged_weights(model, optimizer):
        assert values(model) == [pytest.approx(EXPECTED)]
    assert values(model) == [4.0]
    with pytest.raises(KeyError), averaged_weights(model, optimizer):
        raise KeyError
    assert values(model) == [4.0]


def test_a_skipped_update_takes_the_weights_into_the_average_once_more():
    """Otherwise the bias correction, which counts every update, would make the average of them too small."""
    model, optimizer = trained()
    parameters = list(model.named_parameters().values())
    before = [float(slot.numpy().flat[0]) for slot in optimizer.slots["ema"]]
    with optimizer.skipping(tf.constant(True)):
        optimizer.apply([tf.ones(parameter.shape) for parameter in parameters], parameters)
    assert values(model) == [4.0]
    after = [float(slot.numpy().flat[0]) for slot in optimizer.slots["ema"]]
    assert after == pytest.approx([0.5 * average + 0.5 * 4.0 for average in before])


def save(tmp_path, config):
    model, optimizer = trained(config) if config.ema_decay else model_and_optimizer(ALGPT2_CONFIG, config=config)
    folder = checkpoint_folder(str(tmp_path), 3)
    state = CheckpointState(3, 30, config.to_dict(), "abc", 1)
    save_checkpoint(folder, take_snapshot(model, optimizer), state, TOKENIZER_JSON)
    return folder


def test_a_checkpoint_loads_with_its_last_weights_or_with_their_average(tmp_path):
    folder = save(tmp_path, CONFIG)
    assert values(load_model(folder)) == [4.0]
    assert values(load_model(folder, ema=True)) == [pytest.approx(EXPECTED)]


def test_the_average_of_a_run_without_one_is_refused(tmp_path):
    folder = save(tmp_path, TrainConfig(total_steps=3))
    with pytest.raises(UserError, match="has no average: leave it out"):
        load_model(folder, ema=True)
