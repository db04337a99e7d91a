"""Each bug of 2020 does what the original did, is in the run's folder, and is refused where it makes no sense."""

import dataclasses

import numpy as np
import pytest
from tiny_models import GPT2_CONFIG

from algpt2.config.training import TrainConfig
from algpt2.errors import UserError
from algpt2.studies.original_bugs import ORIGINAL_BUGS, optimizer_factory, require_bugs

ADAFACTOR = TrainConfig(
    total_steps=6,
    batch_size=4,
    optimizer="adafactor",
    learning_rate=0.5,
    warmup_steps=2,
    decay="linear",
    final_learning_rate_fraction=0.0,
    weight_decay=0.0,
    multiply_by_parameter_scale=False,
    min_dim_size_to_factor=16,
)


class Updates:
    """An optimizer with bugs, and a model that it updates.

    Args:
      bugs: their names.
      config: of the run.
    """

    def __init__(self, bugs, config):
        from algpt2.model.gpt import GPT

        model = GPT(GPT2_CONFIG)
        self.optimizer = optimizer_factory(bugs)(config, model)
        self.parameters = model.named_parameters()

    def moves(self, gradient_of):
        """Makes an update; returns by how much each parameter was moved. `gradient_of` takes its shape."""
        import keras

        before = {name: parameter.numpy() for name, parameter in self.parameters.items()}
        gradients = [keras.ops.convert_to_tensor(gradient_of(tuple(p.shape))) for p in self.parameters.values()]
        self.optimizer.apply(gradients, list(self.parameters.values()))
        return {name: parameter.numpy() - before[name] for name, parameter in self.parameters.items()}


def test_adafactor_without_memory_divides_each_gradient_by_its_own_second_moment(rng):
    """The gradients before are a hundred times as large, so anything that is left of them would show."""
    config = dataclasses.replace(ADAFACTOR, decay="constant", warmup_steps=0)
    updates = Updates(["adafactor_without_memory"], config)
    for _ in range(2):
        updates.moves(lambda shape: 100 * rng.normal(size=shape).astype("float32"))
    gradients = {}

    def last_gradient(shape):
        return gradients.setdefault(shape, rng.normal(size=shape).astype("float32"))

    moves = updates.moves(last_gradient)
    vector = gradients[moves["ln_f.bias"].shape]
    np.testing.assert_allclose(moves["ln_f.bias"], -0.5 * np.sign(vector), rtol=1e-5)
    matrix = gradients[moves["wte.weight"].shape].astype("float64")
    rows, columns = (matrix**2).mean(axis=1), (matrix**2).mean(axis=0)
    update = matrix / np.sqrt(np.outer(rows / rows.mean(), columns))
    update /= max(1.0, np.sqrt((update**2).mean()))
    np.testing.assert_allclose(moves["wte.weight"], -0.5 * update, rtol=1e-3, atol=1e-6)


def test_the_rate_jumps_where_it_is_used_and_where_it_is_told():
    """Adafactor without memory moves each number of a vector by the learning rate, so the moves tell the rate."""
    updates = Updates(["adafactor_without_memory", "rate_jump"], ADAFACTOR)
    expected = 0.5 * np.array([0, 1 / 2, 1 - 2 / 6, 1 - 3 / 6, 1 - 4 / 6, 1 - 5 / 6])
    moved = [-updates.moves(lambda shape: np.ones(shape, "float32"))["ln_f.bias"] for _ in range(6)]
    np.testing.assert_allclose(np.array(moved), np.tile(expected[:, None], 32), rtol=1e-5, atol=1e-7)
    assert [updates.optimizer.rate_of(step) for step in range(6)] == pytest.approx(expected)


def test_without_bugs_it_is_the_trainers_own_optimizer():
    updates = Updates([], ADAFACTOR)
    assert updates.optimizer.decay_exponent == -0.8
    assert [updates.optimizer.rate_of(step) for step in (0, 1, 3, 5)] == pytest.approx([0.25, 0.5, 0.25, 0.0])


def test_a_run_with_bugs_logs_their_rate_and_goes_on_with_the_same_bugs_alone(records_folder, tmp_path, caplog):
    import tensorflow as tf
    from tiny_run import tiny_run

    from algpt2.tracking.metrics import read_metrics
    from algpt2.training.loop import train

    bugs = ("rate_jump",)
    plain = tiny_run(records_folder, tmp_path / "run", total_steps=4, warmup_steps=2, decay="linear")
    records = dataclasses.replace(plain.train_records, losses=("a fifth is lost",))
    run = dataclasses.replace(plain, train_records=records, optimizer_changes=bugs)
    strategy = tf.distribute.get_strategy()
    with pytest.raises(ValueError, match="rate_jump"):
        train(run, strategy)
    result = train(run, strategy, create_optimizer=optimizer_factory(bugs))
    rates = {line["step"]: line["learning_rate"] for line in read_metrics(run.model_dir) if "loss" in line}
    assert rates == pytest.approx({2: 1e-2 * 1 / 2, 4: 1e-2 * (0.1 + 0.9 * (1 - 3 / 4))})
    warnings = [one for one in caplog.records if one.levelname == "WARNING" and one.name != "tensorflow"]
    assert [one.getMessage() for one in warnings] == ["a fifth is lost"]
    assert train(run, strategy, create_optimizer=optimizer_factory(bugs)) == result
    with pytest.raises(UserError, match=r"differs in optimizer changes: \('rate_jump',\), now \(\)"):
        train(plain, strategy)


@pytest.mark.parametrize(
    ("bugs", "changes", "expected"),
    [
        (["rate_jmp"], {}, "a bug must be one of adafactor_without_memory, rate_jump, received 'rate_jmp'"),
        (["rate_jump", "rate_jump"], {}, "rate_jump is named more often"),
        (["rate_jump"], {"decay": "cosine"}, "the bug rate_jump needs decay linear, received cosine"),
        (["adafactor_without_memory"], {"optimizer": "adamw"}, "needs optimizer adafactor, received adamw"),
    ],
)
def test_bugs_that_are_unknown_or_do_not_fit_the_run_are_refused(bugs, changes, expected):
    config = dataclasses.replace(ADAFACTOR, **changes)
    with pytest.raises(UserError, match=expected):
        require_bugs(bugs, config)
    with pytest.raises(UserError, match=expected):
        Updates(bugs, config)
    require_bugs([*ORIGINAL_BUGS], ADAFACTOR)
