import dataclasses

import pytest
import tensorflow as tf
from tiny_models import ALGPT2_CONFIG

from algpt2.config.training import TrainConfig
from algpt2.errors import UserError
from algpt2.model.losses import mean_head_nats
from algpt2.preflight.step_export import export, export_training_step
from algpt2.training import step

ONE_LAYER = dataclasses.replace(ALGPT2_CONFIG, n_layer=1)
CONFIG = TrainConfig(total_steps=10, batch_size=2, compute_dtype="bfloat16", jit_compile=False)


def printing(hidden, table, targets, count):
    tf.print(hidden[0, 0, 0])  # refused here
    return mean_head_nats(hidden, table, targets, count)


def of_dynamic_shape(hidden, table, targets, count):
    kept = tf.boolean_mask(hidden, targets > 3)  # refused here
    return mean_head_nats(hidden, table, targets, count) + tf.reduce_sum(tf.cast(kept, tf.float32))


@pytest.mark.parametrize(
    ("loss", "operation", "accumulation_steps"), [(printing, "StringFormat", 1), (of_dynamic_shape, "Where", 2)]
)
def test_a_step_that_no_tpu_can_run_is_refused_with_the_operation_and_the_line(
    monkeypatch, loss, operation, accumulation_steps
):
    monkeypatch.setattr(step, "mean_head_nats", loss)
    line = loss.__code__.co_firstlineno + 1
    with pytest.raises(UserError, match=rf"\b{operation}\b.*test_step_export\.py:{line}\)"):
        export_training_step(ONE_LAYER, dataclasses.replace(CONFIG, accumulation_steps=accumulation_steps))


def test_operations_of_static_shape_are_not_refused():
    """`top_k` leaves the mark of dynamic dimensions in a program that has none."""
    assert b"set_dimension_size" in export(lambda x: tf.sort(x), tf.TensorSpec((4, 8), tf.float32))
