import pytest

from algpt2.config.layer_sharing import n_parameter_sets, parameter_sets
from algpt2.config.model import GPTConfig
from algpt2.errors import UserError


@pytest.mark.parametrize(
    ("plan", "sets"),
    [
        ("none", (0, 1, 2, 3, 4, 5)),
        ("all", (0, 0, 0, 0, 0, 0)),
        ("ends", (0, 1, 1, 1, 1, 2)),
        ("ends 2", (0, 1, 2, 2, 3, 4)),
        ("groups 2", (0, 0, 1, 1, 2, 2)),
        ("groups 4", (0, 0, 0, 0, 1, 1)),
        ("sequence 3", (0, 0, 1, 1, 2, 2)),
        ("sequence 4", (0, 0, 1, 2, 2, 3)),
        ("cycle 3", (0, 1, 2, 0, 1, 2)),
        ("cycle 4", (0, 1, 2, 3, 0, 1)),
        ("cycle_reversed 3", (0, 1, 2, 2, 1, 0)),
        ("cycle_reversed 6", (0, 1, 2, 3, 4, 5)),
        ("0 1 1 0 2 0", (0, 1, 1, 0, 2, 0)),
    ],
)
def test_a_plan_says_which_parameters_each_of_six_applications_uses(plan, sets):
    assert parameter_sets("attention_sharing", plan, 6) == sets
    assert n_parameter_sets("attention_sharing", plan, 6) == max(sets) + 1


def test_the_reversed_cycle_turns_round_in_its_last_round_only():
    """Takase and Kiyono's figure of nine layers with three sets of parameters."""
    assert parameter_sets("attention_sharing", "cycle_reversed 3", 9) == (0, 1, 2, 0, 1, 2, 2, 1, 0)


@pytest.mark.parametrize(
    "plan", ["", "some", "all 2", "cycle", "cycle 0", "cycle 7", "cycle -1", "cycle 2 3", "ends 4"]
)
def test_what_is_no_plan_is_refused_with_those_that_are(plan):
    with pytest.raises(UserError, match="feed_forward_sharing must be none, all, ends .* for 6 layers, received"):
        parameter_sets("feed_forward_sharing", plan, 6)


@pytest.mark.parametrize("plan", ["0 1", "0 2 1 1 0 0", "1 0 0 0 0 0", "0 1 1 1 1 1 1"])
def test_a_list_must_number_each_layer_and_new_sets_in_order(plan):
    with pytest.raises(UserError, match="one number for each of 6 layers"):
        parameter_sets("attention_sharing", plan, 6)


@pytest.mark.parametrize("plan", ["none", "all", "ends 2", "groups 3", "sequence 5", "cycle 5", "cycle_reversed 5"])
@pytest.mark.parametrize("n_layer", [5, 7, 12])
def test_sets_are_counted_without_listing_them_for_any_number_of_layers(plan, n_layer):
    assert n_parameter_sets("attention_sharing", plan, n_layer) == max(parameter_sets("x", plan, n_layer)) + 1
    assert n_parameter_sets("attention_sharing", plan, 2**31 - 1) >= 1


def test_share_layers_is_short_for_both_plans_and_each_plan_goes_before_it():
    config = GPTConfig(n_layer=4, share_layers=True, feed_forward_sharing="ends")
    assert (config.attention_sets, config.feed_forward_sets) == ((0, 0, 0, 0), (0, 1, 1, 2))
    assert GPTConfig(n_layer=4).attention_sets == (0, 1, 2, 3)


def test_a_gpt2_that_shares_only_some_parameters_is_an_algpt2():
    assert GPTConfig(feed_forward_sharing="cycle 6").model_type == "algpt2"
    assert GPTConfig(attention_sharing="none").model_type == "gpt2"
