"""The learning rate of 2020, against Keras' own decay and by hand."""

import keras
import numpy as np
import pytest

from algpt2.optim.legacy_rate import LegacyRate


def test_the_rate_falls_by_a_ninth_at_the_end_of_a_warm_up_of_a_ninth():
    rates = LegacyRate(peak=0.9, warmup_steps=10, total_steps=90, final_fraction=0.0)(np.arange(92)).numpy()
    assert rates[[0, 5, 9]] == pytest.approx([0.0, 0.45, 0.81])
    assert rates[[10, 45, 89, 90, 91]] == pytest.approx([0.8, 0.45, 0.01, 0.0, 0.0], abs=1e-7)
    assert 1 - rates[10] / 0.9 == pytest.approx(0.111, abs=1e-3)


@pytest.mark.parametrize(("warmup_steps", "fraction"), [(7, 0.0), (7, 0.2), (0, 0.1)])
def test_every_rate_after_the_warm_up_is_that_of_keras_polynomial_decay(warmup_steps, fraction):
    theirs = keras.optimizers.schedules.PolynomialDecay(1e-3, decay_steps=40, end_learning_rate=1e-3 * fraction)
    ours = LegacyRate(1e-3, warmup_steps, 40, fraction)
    for step in range(50):
        expected = 1e-3 * step / warmup_steps if step < warmup_steps else float(theirs(step))
        assert float(ours(step)) == pytest.approx(expected, rel=1e-6, abs=1e-10)


def test_it_is_made_anew_from_its_configuration():
    schedule = LegacyRate(1e-3, 2.5, 40, 0.1)
    assert LegacyRate.from_config(schedule.get_config()).get_config() == schedule.get_config()
