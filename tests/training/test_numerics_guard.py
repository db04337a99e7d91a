import numpy as np
import pytest
import tensorflow as tf
from tiny_models import ALGPT2_CONFIG

from algpt2.evaluation.validation import Validator
from algpt2.model.gpt import GPT
from algpt2.records.record_set import open_record_set
from algpt2.training.numerics_guard import NumericsGuard, gap_result


@pytest.fixture
def guard_of(records_folder):
    """Makes a guard of a model with larger weights than initial ones, where rounding shows."""
    import dataclasses

    def guard_of(dtype):
        strategy = tf.distribute.get_strategy()
        model = GPT(dataclasses.replace(ALGPT2_CONFIG, vocab_size=300), dtype=dtype)
        for parameter in model.named_parameters().values():
            parameter.assign(parameter.numpy() * 5)
        validator = Validator(strategy, model, open_record_set([records_folder], "val"), 4, jit_compile=False)
        return NumericsGuard(validator, jit_compile=False), model, validator

    return guard_of


def test_float32_has_no_gap_to_itself(guard_of):
    guard, _, validator = guard_of("float32")
    assert guard.gap(2) == 0.0
    assert guard.gap(10**6) == 0.0, "more batches than there are means all"
    loss = validator()
    assert validator.loss_of_first_batches(10**6) == pytest.approx(loss.total_nats / loss.tokens)


def test_the_gap_is_that_of_the_present_weights_in_the_compute_dtype(guard_of):
    guard, model, _ = guard_of("mixed_bfloat16")
    first = guard.gap(2)
    assert 1e-6 < abs(first) < 0.1
    for parameter in model.named_parameters().values():
        parameter.assign(parameter.numpy() * 3)
    assert guard.gap(2) != first


@pytest.mark.parametrize(("gap", "is_warning"), [(0.01, False), (0.03, True), (-0.03, True), (np.nan, True)])
def test_a_gap_above_the_tolerance_is_a_warning(gap, is_warning):
    result = gap_result(gap, 0.02)
    assert (len(result.lines), len(result.warnings)) == ((0, 1) if is_warning else (1, 0))
    assert "changes the validation loss by" in [*result.lines, *result.warnings][0]
