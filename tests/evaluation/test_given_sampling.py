"""How tokens are drawn, told to a graph while it runs: the same as when it is told before."""

import numpy as np
import pytest
import tensorflow as tf

from algpt2.config.sampling import SamplingConfig
from algpt2.evaluation.sampling import Draws, GivenSampling, next_tokens

LOGITS = np.random.default_rng(0).normal(scale=2, size=(40, 11)).astype("float32")
DRAWS = Draws(np.int32(5), np.zeros(40, "int32"), np.arange(40, dtype="int32"))


@pytest.mark.parametrize("temperature", [0.0, 0.7, 3.0])
@pytest.mark.parametrize("top_k", [0, 1, 4, 11, 100])
@pytest.mark.parametrize("top_p", [1.0, 0.6])
def test_the_same_tokens_are_drawn(temperature, top_k, top_p):
    config = SamplingConfig(temperature=temperature, top_k=top_k, top_p=top_p)
    given = GivenSampling.of(*(tf.constant(value) for value in (temperature, top_k, top_p)))
    found, expected = (next_tokens(LOGITS, None, DRAWS, sampling).numpy() for sampling in (given, config))
    np.testing.assert_array_equal(found, expected)
    if temperature == 3 and top_k != 1:
        assert (found != LOGITS.argmax(axis=-1)).any()
