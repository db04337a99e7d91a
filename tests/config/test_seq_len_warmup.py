import pytest

from algpt2.config.seq_len_warmup import require_doublings, seq_len_at, steps_until_longer
from algpt2.config.training import TrainConfig
from algpt2.errors import UserError

SEQ_LEN = 64


def config_of(**changes):
    return TrainConfig(total_steps=100, **{"initial_seq_len": 8, "seq_len_warmup_steps": 10, **changes})


def test_the_length_doubles_at_equal_distances_and_then_stays():
    lengths = [seq_len_at(step, config_of(), SEQ_LEN) for step in range(14)]
    assert lengths == [8] * 4 + [16] * 3 + [32] * 3 + [64] * 4


def test_no_graph_call_crosses_a_doubling():
    config = config_of()
    for step in range(14):
        remaining = steps_until_longer(step, config, SEQ_LEN)
        later = [seq_len_at(step + i, config, SEQ_LEN) for i in range(20)]
        changes = [i for i, length in enumerate(later) if length != later[0]]
        assert remaining == (changes[0] if changes else None)


def test_without_a_warmup_the_length_is_the_models():
    config = TrainConfig(total_steps=100)
    assert seq_len_at(0, config, SEQ_LEN) == SEQ_LEN
    assert steps_until_longer(0, config, SEQ_LEN) is None
    require_doublings(config, SEQ_LEN)


@pytest.mark.parametrize("initial", [64, 128, 7, 12, 48])
def test_a_length_that_does_not_double_up_to_the_models_is_refused(initial):
    with pytest.raises(UserError, match=f"halved one or more times, received {initial}"):
        require_doublings(config_of(initial_seq_len=initial), SEQ_LEN)


def test_a_warmup_shorter_than_its_doublings_is_refused():
    require_doublings(config_of(seq_len_warmup_steps=3), SEQ_LEN)
    with pytest.raises(UserError, match="at least one for each of the 3 doublings, received 2"):
        require_doublings(config_of(seq_len_warmup_steps=2), SEQ_LEN)


@pytest.mark.parametrize("given", [{"seq_len_warmup_steps": 0}, {"initial_seq_len": None}])
def test_length_and_steps_must_be_given_together(given):
    with pytest.raises(UserError, match="give both or neither"):
        config_of(**given)
