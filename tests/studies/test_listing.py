"""What a study takes, before and while it runs."""

import pytest
from tiny_study import SELECTING, SPEC, finished

from algpt2.errors import UserError
from algpt2.model.sizes import training_flops_per_token
from algpt2.studies.cells import CONFIRMATION, SELECTION, Cell
from algpt2.studies.listing import Speed, format_stages, list_stages
from algpt2.studies.spec import parse_spec

ARMS = ("gpt2", "shared")


def test_cells_tokens_flops_and_hours_of_each_stage():
    spec = parse_spec(SELECTING)
    selection, confirmation, total = list_stages(spec, ARMS, {}, Speed(tokens_per_second=1280 / 3600))
    assert (selection.cells, confirmation.cells, total.cells) == (2 * 2 * 2, 2 * 2, 12)
    assert (selection.most_cells, total.most_cells) == (8 + 2 * (2 * 2) * 2, 12 + 16)
    assert (total.tokens, total.hours) == (12 * 1280, pytest.approx(12))
    a_token = sum(training_flops_per_token(spec.model_config(arm)) for arm in spec.arms)
    assert total.flops == 6 * 1280 * a_token
    by_flops = list_stages(spec, ARMS, {}, Speed(flops_per_second=total.flops / 3600))
    assert [row.hours for row in by_flops] == pytest.approx([2 / 3, 1 / 3, 1])


def test_only_the_arms_that_are_asked_for_are_counted():
    assert list_stages(parse_spec(SPEC), ["shared"], {})[-1].cells == 2


def test_what_has_finished_costs_nothing_any_more():
    spec = parse_spec(SELECTING)
    cells = [Cell("gpt2", rate, seed, SELECTION) for rate in (0.001, 0.003) for seed in (1, 2)]
    results = {cell: finished(cell, cell.learning_rate) for cell in cells}
    selection, confirmation, _ = list_stages(spec, ARMS, results)
    # The best was at the lower edge, so the grid has grown by a rate for both seeds.
    assert (selection.cells, selection.finished, selection.tokens) == (8 + 2, 4, 6 * 1280)
    assert confirmation.cells == 4
    chosen = {cell: finished(cell, 1.0) for cell in [Cell("gpt2", 0.001, 11, CONFIRMATION)]}
    assert list_stages(spec, ARMS, results | chosen)[1].finished == 0, "its rate is not chosen yet"


def test_the_table_has_a_line_for_each_stage():
    table = format_stages(list_stages(parse_spec(SPEC), ARMS, {})).splitlines()
    assert [line.split()[0] for line in table] == ["stage", "selection", "confirmation", "total"]
    assert table[-1].split()[-1] == "-"


@pytest.mark.parametrize("speed", [0, -1, float("inf"), float("nan")])
def test_a_speed_must_be_one(speed):
    with pytest.raises(UserError, match="--flops_per_second must be a finite number above 0"):
        Speed(flops_per_second=speed)
