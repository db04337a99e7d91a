import pytest

from algpt2.config.depth_warmup import depth_at, require_stages, steps_until_deeper
from algpt2.config.model import GPTConfig
from algpt2.config.step_shape import StepShape, shape_at, steps_until_next_shape
from algpt2.config.training import TrainConfig
from algpt2.errors import UserError

N_LAYER = 12


def config_of(**changes):
    return TrainConfig(total_steps=100, **{"initial_n_layer": 4, "depth_warmup_steps": 5, **changes})


def test_layers_join_at_equal_distances_until_all_are_there():
    assert [depth_at(step, config_of(), N_LAYER) for step in range(8)] == [4, 4, 4, 8, 8, 12, 12, 12]
    assert [depth_at(step, config_of(initial_n_layer=6), N_LAYER) for step in range(7)] == [6] * 5 + [12] * 2


def test_no_graph_call_crosses_a_change_of_depth_or_of_length():
    config = config_of(depth_warmup_steps=7, initial_seq_len=8, seq_len_warmup_steps=9)
    model_config = GPTConfig(n_layer=N_LAYER, seq_len=32)
    for step in range(14):
        later = [shape_at(step + i, config, model_config) for i in range(20)]
        changes = [i for i, shape in enumerate(later) if shape != later[0]]
        assert steps_until_next_shape(step, config, model_config) == (changes[0] if changes else None)
    assert shape_at(20, config, model_config) == StepShape(32, N_LAYER)


def test_without_a_warmup_the_depth_is_the_models():
    config = TrainConfig(total_steps=100)
    assert depth_at(0, config, N_LAYER) == N_LAYER
    assert steps_until_deeper(0, config, N_LAYER) is None
    require_stages(config, N_LAYER)


@pytest.mark.parametrize("initial", [5, 12, 24])
def test_a_depth_that_is_no_part_of_the_models_is_refused(initial):
    with pytest.raises(UserError, match=f"n_layer 12 divided by a whole number above 1, received {initial}"):
        require_stages(config_of(initial_n_layer=initial), N_LAYER)


def test_a_warmup_shorter_than_the_times_that_layers_join_is_refused():
    require_stages(config_of(depth_warmup_steps=2), N_LAYER)
    with pytest.raises(UserError, match="at least one for each of the 2 times that layers join, received 1"):
        require_stages(config_of(depth_warmup_steps=1), N_LAYER)


@pytest.mark.parametrize("given", [{"depth_warmup_steps": 0}, {"initial_n_layer": None}])
def test_depth_and_steps_must_be_given_together(given):
    with pytest.raises(UserError, match="initial_n_layer and depth_warmup_steps .* give both or neither"):
        config_of(**given)
