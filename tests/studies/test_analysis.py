import numpy as np
import pytest
from small_study import ARMS, BITS, NATS_PER_BIT, SPEC, bits_of, changed, confirmation_seed_missing, write_study

from algpt2.config.model import GPTConfig
from algpt2.errors import UserError
from algpt2.model.sizes import training_flops_per_token
from algpt2.studies.analysis import analyse, has_gap
from algpt2.studies.statistics import Estimate

stats = pytest.importorskip("scipy.stats")


@pytest.fixture
def analysis(tmp_path):
    return analyse(write_study(tmp_path))


def interval_of(values):
    """The mean and Student's interval as SciPy has them."""
    low, high = stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    return pytest.approx((np.mean(values), low, high), 1e-9)


def numbers(estimate):
    return estimate.mean, estimate.low, estimate.high


def test_an_arm_has_its_sizes_and_the_interval_of_its_confirmation_seeds(analysis):
    assert [arm.arm for arm in analysis.arms] == list(ARMS)
    config = GPTConfig.from_preset("gpt2-tiny")
    gpt2 = analysis.arms[0]
    assert gpt2.parameters == config.parameter_count()
    assert gpt2.training_flops == 2_048_000 * training_flops_per_token(config)
    assert (gpt2.tokens, gpt2.learning_rate, gpt2.seeds, gpt2.missing_seeds) == (2_048_000, 3e-3, (11, 12, 13), ())
    for arm in analysis.arms:
        assert numbers(arm.bits_per_byte) == interval_of(BITS[arm.arm])
        assert numbers(arm.nats_per_token) == interval_of(np.multiply(BITS[arm.arm], NATS_PER_BIT))
        assert arm.bits_per_byte.n == 3


def test_a_difference_is_paired_by_seed_in_both_units(analysis):
    shared = analysis.differences[0]
    assert (shared.first, shared.second, shared.seeds) == ("shared", "gpt2", (11, 12, 13))
    difference = np.subtract(BITS["shared"], BITS["gpt2"])
    assert numbers(shared.bits_per_byte) == interval_of(difference)
    assert numbers(shared.nats_per_token) == interval_of(difference * NATS_PER_BIT)
    assert shared.p == pytest.approx(stats.ttest_rel(BITS["shared"], BITS["gpt2"]).pvalue, 1e-9)


def test_holm_corrects_over_the_pairs_of_the_study(analysis):
    p_values = [one.p for one in analysis.differences]
    pairs = (("shared", "gpt2"), ("wide", "gpt2"), ("shared-wide", "wide"))
    assert p_values == pytest.approx([stats.ttest_rel(BITS[a], BITS[b]).pvalue for a, b in pairs], 1e-9)
    least, middle, greatest = sorted(p_values)
    assert greatest == p_values[1], "so the order of the pairs is not that of their p"
    expected = {least: 3 * least, middle: 2 * middle, greatest: greatest}
    assert [one.p_holm for one in analysis.differences] == pytest.approx([expected[p] for p in p_values])


def test_a_gap_closed_is_a_ratio_of_means_with_fiellers_interval(analysis):
    """By hand: gaps .22 .23 .24, with the change .09 .105 .095: 1 - .29 / .69."""
    (gap,) = analysis.gaps
    assert gap.closed.mean == pytest.approx(1 - 0.29 / 0.69)
    assert gap.closed_by_seed == pytest.approx((1 - 0.09 / 0.22, 1 - 0.105 / 0.23, 1 - 0.095 / 0.24))
    gaps, changed_gaps = np.array([0.22, 0.23, 0.24]), np.array([0.09, 0.105, 0.095])
    assert numbers(gap.gap) == interval_of(gaps)
    assert numbers(gap.changed_gap) == interval_of(changed_gaps)
    for end in (gap.closed.low, gap.closed.high):
        assert stats.ttest_1samp(changed_gaps - (1 - end) * gaps, 0.0).pvalue == pytest.approx(0.05, 1e-6)
    assert gap.closed.low < gap.closed.mean < gap.closed.high


def test_a_change_that_helps_the_control_as_much_closes_nothing(tmp_path):
    helped = {"gpt2": 0.0, "shared": 0.2, "wide": -0.1, "shared-wide": 0.1}
    noise = {11: 0.0, 12: 0.01, 13: -0.01, 1: 0.0}
    study = write_study(tmp_path, bits=lambda cell: 2 + helped[cell.arm] + noise[cell.seed] * len(cell.arm) / 5)
    (gap,) = analyse(study).gaps
    assert gap.closed.mean == pytest.approx(0.0)
    assert gap.closed.contains_zero


def test_there_is_no_gap_to_close_where_its_interval_contains_zero_or_the_arm_is_better(tmp_path):
    spec = SPEC.replace('arm = "shared"\ncontrol = "gpt2"', 'arm = "wide"\ncontrol = "gpt2"')
    (gap,) = analyse(write_study(tmp_path / "a", spec)).gaps
    assert gap.gap.contains_zero
    assert (gap.closed, gap.closed_by_seed) == (None, ())
    spec = SPEC.replace('arm = "shared"\ncontrol = "gpt2"', 'arm = "gpt2"\ncontrol = "shared"')
    (gap,) = analyse(write_study(tmp_path / "b", spec)).gaps
    assert gap.gap.high < 0
    assert gap.closed is None
    assert [has_gap(Estimate(one, None, None, 1)) for one in (0.1, 0.0, -0.1)] == [True, False, False]
    assert has_gap(None) is False


def test_a_pair_with_a_missing_seed_takes_the_seeds_that_both_have(tmp_path):
    analysis = analyse(write_study(tmp_path, bits=confirmation_seed_missing("shared", 12)))
    shared, wide, _ = analysis.differences
    assert (shared.seeds, shared.missing_seeds) == ((11, 13), (12,))
    assert numbers(shared.bits_per_byte) == interval_of([0.22, 0.24])
    assert (wide.seeds, wide.missing_seeds) == ((11, 12, 13), ())
    assert analysis.gaps[0].seeds == (11, 13)
    assert analysis.arms[1].missing_seeds == (12,)
    assert [(one.cell.arm, one.cell.seed, one.status) for one in analysis.unfinished] == [("shared", 12, "missing")]


def test_one_seed_gives_a_difference_without_an_interval(tmp_path):
    spec = SPEC.replace("[11, 12, 13]", "[11]")
    analysis = analyse(write_study(tmp_path, spec))
    assert analysis.differences[0].bits_per_byte == Estimate(pytest.approx(0.22), None, None, 1)
    assert (analysis.differences[0].p, analysis.differences[0].p_holm) == (None, None)
    assert analysis.gaps[0].closed == Estimate(pytest.approx(1 - 0.09 / 0.22), None, None, 1)


def test_a_study_whose_cells_are_all_missing_has_figures_without_values(tmp_path):
    analysis = analyse(write_study(tmp_path, bits=lambda cell: None))
    assert all(arm.bits_per_byte is None and arm.choice == "none yet" for arm in analysis.arms)
    assert analysis.differences[0].bits_per_byte is None
    assert analysis.gaps[0].gap is None
    assert len(analysis.unfinished) == 12


def test_a_screening_is_judged_by_its_selection_cells_at_the_chosen_rates(tmp_path):
    spec = SPEC.replace("[11, 12, 13]", "[]").replace("selection_seeds = [1]", "selection_seeds = [11, 12]")
    analysis = analyse(write_study(tmp_path, spec))
    assert analysis.stage == "selection"
    assert numbers(analysis.arms[0].bits_per_byte) == interval_of(BITS["gpt2"][:2])
    assert numbers(analysis.differences[0].bits_per_byte) == interval_of([0.22, 0.23])


def test_every_rate_that_was_tried_is_told_with_what_failed(tmp_path):
    def bits(cell):
        return "the loss is not finite" if cell.arm == "shared" and cell.learning_rate == 1e-2 else bits_of(cell)

    analysis = analyse(write_study(tmp_path, bits=bits))
    of_shared = [one for one in analysis.rates if one.arm == "shared"]
    assert [one.learning_rate for one in of_shared] == [1e-3, 3e-3, 1e-2]
    assert [(one.finished, one.failed, one.missing, one.chosen) for one in of_shared] == [
        (1, 0, 0, False),
        (1, 0, 0, True),
        (0, 1, 0, False),
    ]
    assert of_shared[0].bits_per_byte.mean == pytest.approx(2.27)
    assert [one.reason for one in analysis.unfinished] == ["the loss is not finite"]
    assert analysis.arms[1].choice == "within the grid"


def test_a_rate_at_the_edge_of_a_grid_that_grew_is_told(tmp_path):
    study = write_study(tmp_path, bits=lambda cell: 2 - cell.learning_rate + cell.seed / 1000)
    arm = analyse(study).arms[0]
    assert arm.choice == "at the grid's upper edge, the grid having grown"
    assert arm.learning_rate == max(study.rate_choices["gpt2"].rates) > 1e-2


def test_a_rate_that_was_given_is_not_called_chosen(tmp_path):
    spec = SPEC.replace("[1e-3, 3e-3, 1e-2]", "[3e-3]").replace("selection_seeds = [1]", "selection_seeds = []")
    assert {arm.choice for arm in analyse(write_study(tmp_path, spec)).arms} == {"given"}


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"tokens": 2}, "training tokens, and gpt2/lr-0.001-seed-1 has 2048000 where wide/lr-0.001-seed-1 has 2"),
        ({"tokenizer_sha256": "x"}, "tokenizer, and .* has tokenizer where wide/.* has x"),
        ({"val_fingerprint": "x"}, "validation data, and"),
        ({"train_fingerprint": "x"}, "training data, and"),
    ],
)
def test_cells_of_other_tokens_data_or_tokenizer_are_not_compared(tmp_path, fields, what):
    study = write_study(tmp_path, change=changed("wide", **fields))
    with pytest.raises(UserError, match=f"must have the same {what}"):
        analyse(study)


def with_records(arm):
    return SPEC.replace(f"[arms.{arm}]", f'[arms.{arm}]\nrecords = "legacy"')


def test_an_arm_that_names_records_may_have_other_training_data_and_that_is_told(tmp_path):
    analysis = analyse(write_study(tmp_path, with_records("wide")))
    assert [one.same_training_data for one in analysis.differences] == [True, False, False]
    assert analysis.gaps[0].same_training_data is False


def test_an_arm_that_names_records_must_still_have_the_same_validation_data_and_tokenizer(tmp_path):
    for number, fields in enumerate(({"val_fingerprint": "x"}, {"tokenizer_sha256": "x"}, {"tokens": 2})):
        study = write_study(tmp_path / str(number), with_records("wide"), change=changed("wide", **fields))
        with pytest.raises(UserError, match="must have the same"):
            analyse(study)
