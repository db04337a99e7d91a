"""Which cells a study has at any moment, and how each arm's rate is chosen."""

import pytest
from tiny_study import SELECTING, SPEC

from algpt2.studies.cells import CONFIRMATION, SELECTION, Cell
from algpt2.studies.spec import parse_spec
from algpt2.studies.stages import choose_rate, planned_cells

GROWING = parse_spec(SELECTING)
SEEDS = GROWING.selection_seeds


def scores(curve, rates, arm="gpt2", seeds=SEEDS):
    """Returns the scores of an arm's selection cells: those of a curve over the rate, a little worse with each seed."""
    return {Cell(arm, rate, seed, SELECTION): curve(rate) + 0.01 * seed for rate in rates for seed in seeds}


def choice(known, spec=GROWING):
    return choose_rate(spec, spec.arm("gpt2"), known)


def study_of(curve, spec=GROWING):
    """Runs the cells of one arm until its rate is chosen; returns the choice."""
    known = {}
    while (made := choice(known, spec)).chosen is None:
        rates = [rate for rate in made.rates if Cell("gpt2", rate, SEEDS[0], SELECTION) not in known]
        assert rates, "the choice waits for nothing"
        known |= scores(curve, rates)
    return made


def cells_of(spec, known):
    return planned_cells(spec, {arm.name: choose_rate(spec, arm, known) for arm in spec.arms})


def test_nothing_is_chosen_while_a_cell_is_missing():
    known = scores(lambda rate: rate, GROWING.learning_rates)
    known.popitem()
    assert choice(known).chosen is None
    assert choice(known).rates == GROWING.learning_rates


def test_the_grid_grows_up_by_its_factor_until_the_best_is_inside():
    made = study_of(lambda rate: abs(rate - 0.01))
    assert made.rates == (0.001, 0.003, 0.009, 0.027)
    assert (made.chosen, made.at_edge, made.extra_rates) == (0.009, False, (0.009, 0.027))


def test_the_grid_grows_down_and_stops_at_its_bound_which_is_told():
    made = study_of(lambda rate: rate)
    assert made.rates == (0.000111111, 0.000333333, 0.001, 0.003)
    assert (made.chosen, made.at_edge) == (0.000111111, True)


def test_a_rate_that_is_better_the_greater_it_is_stops_at_the_bound():
    made = study_of(lambda rate: -rate)
    assert made.rates == (0.001, 0.003, 0.009, 0.027)
    assert (made.chosen, made.at_edge) == (0.027, True)


def test_a_bound_of_0_leaves_the_grid_as_it_is():
    spec = parse_spec(SELECTING.replace("tokens", "most_extra_rates = 0\ntokens", 1))
    made = choice(scores(lambda rate: rate, spec.learning_rates), spec)
    assert (made.rates, made.chosen, made.at_edge) == (spec.learning_rates, 0.001, True)


def test_the_mean_over_the_seeds_decides_and_the_lower_of_equal_rates():
    first, second = SEEDS
    known = scores(lambda rate: 1.0, (0.001, 0.003, 0.009))
    known |= scores(lambda rate: 2.0, [0.000333333])
    known[Cell("gpt2", 0.003, first, SELECTION)] = 0.5
    known[Cell("gpt2", 0.003, second, SELECTION)] = 1.6
    assert choice(known).chosen == 0.001
    known[Cell("gpt2", 0.003, second, SELECTION)] = 1.4
    assert choice(known).chosen == 0.003


def test_a_failed_cell_is_worse_than_all_that_finished():
    known = scores(lambda rate: -rate, GROWING.learning_rates)
    known[Cell("gpt2", 0.003, SEEDS[0], SELECTION)] = None
    known |= scores(lambda rate: 9.0, [0.000333333])
    made = choice(known)
    assert made.chosen == 0.001
    assert not made.at_edge


def test_an_arm_whose_every_rate_failed_has_none_and_waits_for_nothing():
    known = dict.fromkeys(scores(lambda rate: rate, GROWING.learning_rates))
    assert choice(known).chosen is None
    assert set(cells_of(GROWING, known)) >= set(known)
    assert all(cell.stage == SELECTION for cell in cells_of(GROWING, known))


def test_confirmation_follows_at_the_chosen_rate_for_each_arm_by_itself():
    known = scores(lambda rate: abs(rate - 0.003), (0.001, 0.003, 0.009))
    confirming = [cell for cell in cells_of(GROWING, known) if cell.stage == CONFIRMATION]
    assert confirming == [Cell("gpt2", 0.003, seed, CONFIRMATION) for seed in (11, 12)]


def test_seeds_come_before_arms_so_that_pairs_are_whole_early():
    cells = cells_of(parse_spec(SPEC), {})
    assert [(cell.arm, cell.seed) for cell in cells] == [("gpt2", 11), ("shared", 11), ("gpt2", 12), ("shared", 12)]


def test_a_screening_runs_its_only_rate_on_the_selection_seeds():
    spec = parse_spec(SPEC.replace("confirmation_seeds", "selection_seeds"))
    assert {(cell.arm, cell.seed, cell.stage) for cell in cells_of(spec, {})} == {
        (arm, seed, SELECTION) for arm in ("gpt2", "shared") for seed in (11, 12)
    }


def test_an_arm_with_one_rate_of_its_own_selects_nothing():
    spec = parse_spec(SELECTING.replace("[arms.gpt2]", "[arms.gpt2]\nlearning_rates = [0.5]"))
    of_gpt2 = [cell for cell in cells_of(spec, {}) if cell.arm == "gpt2"]
    assert of_gpt2 == [Cell("gpt2", 0.5, seed, CONFIRMATION) for seed in (11, 12)]


@pytest.mark.parametrize(("rate", "name"), [(3e-3, "lr-0.003"), (1.0, "lr-1"), (1.2345e-5, "lr-1.2345e-05")])
def test_a_cell_is_called_after_its_arm_rate_and_seed(rate, name):
    assert Cell("gpt2", rate, 7, SELECTION).name == f"gpt2/{name}-seed-7"
