import dataclasses

import numpy as np
import tensorflow as tf
from tiny_models import ALGPT2_CONFIG

from algpt2.model.gpt import GPT

SEED = np.array([3, 4], "int32")


def test_a_shared_block_draws_new_masks_in_each_application():
    config = dataclasses.replace(ALGPT2_CONFIG, dropout=0.5)
    model = GPT(config)
    x = model.embed(np.zeros((1, 16), "int32"))
    first, again, second = (model.h[0](x, dropout_seed=tf.constant(SEED), application=i).numpy() for i in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - second).max() > 1e-3


def test_dropout_acts_in_training_only():
    model = GPT(dataclasses.replace(ALGPT2_CONFIG, dropout=0.5))
    ids = np.zeros((1, 16), "int32")
    np.testing.assert_array_equal(model(ids, dropout_seed=SEED).numpy(), model(ids).numpy())
    assert np.abs(model(ids, training=True, dropout_seed=SEED).numpy() - model(ids).numpy()).max() > 1e-3
