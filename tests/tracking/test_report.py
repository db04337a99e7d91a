import base64
import dataclasses
import json
import re

import pytest
from tiny_models import ALGPT2_CONFIG, GPT2_CONFIG

from algpt2.config.training import TrainConfig
from algpt2.errors import UserError
from algpt2.evaluation.published import BASELINES, VALIDATION_BASELINES
from algpt2.tracking import report_charts
from algpt2.tracking.report import read_runs, render, write_report
from algpt2.tracking.report_charts import BENCHMARK_CHARTS, CHARTS, Chart, Curve, svg_data_uri

pytest.importorskip("matplotlib")

TRAIN = TrainConfig(total_steps=40, batch_size=4)
TOKENS_PER_STEP = 4 * GPT2_CONFIG.seq_len
IMAGE_HEIGHT = 3.6 * 72


def write_run(folder, model=GPT2_CONFIG, train=TRAIN, steps=40, validated=True, result=None, benchmarks=None):
    folder.mkdir(parents=True)
    fields = {"model_config": model.to_dict(), "train_config": train.to_dict(), "train_fingerprint": "0" * 64}
    (folder / "run.json").write_text(json.dumps(fields))
    lines = []
    for step in range(10, steps + 1, 10):
        speed = None if step == 10 else 1000.0 + step
        logged = {"loss": 5 - step / 20, "gradient_norm": 1.0, "learning_rate": 1e-3, "tokens_per_second": speed}
        lines.append({"step": step, "tokens": step * TOKENS_PER_STEP, **logged})
    if validated:
        lines.append({"step": steps, "val_loss": 3.5, "val_perplexity": 33.1, "val_bits_per_byte": 1.25})
    lines += [{"step": step, **benchmarks} for step in (steps // 2, steps) if benchmarks]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if result:
        (folder / "result.json").write_text(json.dumps(result))
    return str(folder)


@pytest.fixture
def two_runs(tmp_path):
    faster = dataclasses.replace(TRAIN, learning_rate=1e-2)
    done = write_run(tmp_path / "gpt", result={"tokens_per_second": 2222.0})
    return [done, write_run(tmp_path / "algpt", ALGPT2_CONFIG, faster, steps=20, validated=False)]


def table_row(page, name):
    row = re.search(rf"<tr><th>{re.escape(name)}</th>(.*?)</tr>", page)
    return row and re.findall(r"<td>(.*?)</td>", row[1])


def charts_in(page):
    return [base64.b64decode(data).decode() for data in re.findall(r'src="data:image/svg\+xml;base64,(.*?)"', page)]


def test_the_page_needs_nothing_but_itself(two_runs, tmp_path):
    write_report(two_runs, str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    assert len(charts_in(page)) == len(CHARTS)
    assert not re.search(r"(src|href)=\"(?!data:)|<script|<link|@import|url\(", page)


def test_the_table_has_the_figures_of_finished_and_unfinished_runs(two_runs):
    page = render(read_runs(two_runs))
    assert table_row(page, "status") == ["finished", "unfinished"]
    assert table_row(page, "parameters") == [f"{c.parameter_count():,}" for c in (GPT2_CONFIG, ALGPT2_CONFIG)]
    assert table_row(page, "step") == ["40", "20"]
    assert table_row(page, "tokens") == [f"{40 * 64:,}", f"{20 * 64:,}"]
    assert table_row(page, "last training loss (nats per token)") == ["3.0000", "4.0000"]
    assert table_row(page, "last validation bits per byte") == ["1.2500", "-"]
    assert table_row(page, "tokens/s") == ["2,222", "1,020"]


def test_only_the_settings_that_differ_are_listed(two_runs):
    page = render(read_runs(two_runs))
    assert table_row(page, "share_layers") == ["False", "True"]
    assert table_row(page, "embedding_size") == ["-", "8"]
    assert table_row(page, "learning_rate") == ["0.0006", "0.01"]
    assert table_row(page, "d_model") is None
    assert table_row(page, "seed") is None


def test_a_curve_is_over_tokens_and_leaves_out_what_was_not_logged(two_runs):
    run = read_runs(two_runs)[0]
    assert run.curve("tokens_per_second").points == [(s * TOKENS_PER_STEP, 1000 + s) for s in (20, 30, 40)]
    assert run.curve("val_bits_per_byte").points == [(40 * TOKENS_PER_STEP, 1.25)]


def test_runs_without_validation_are_named_under_the_chart(two_runs):
    page = render(read_runs(two_runs))
    assert page.count("Not logged: algpt.") == 1
    alone = render(read_runs(two_runs[1:]))
    assert "No run has logged this." in alone
    assert len(charts_in(alone)) == len(CHARTS) - 1


def test_every_run_is_drawn_in_its_own_colour_with_labelled_axes(two_runs):
    training_loss = charts_in(render(read_runs(two_runs)))[0]
    assert all(f"stroke: {report_charts.colour(i)}" in training_loss for i in range(2))
    assert report_charts.colour(2) not in training_loss
    assert "training tokens" in training_loss
    assert "nats per token" in training_loss


def test_six_runs_have_six_colours():
    assert len({report_charts.colour(i) for i in range(6)}) == 6


def test_equal_runs_make_an_equal_page(two_runs):
    assert render(read_runs(two_runs)) == render(read_runs(two_runs))


def test_a_chart_of_one_point_can_be_drawn():
    assert svg_data_uri(Chart("loss", "Loss", "nats"), [Curve("a", [(64, 5.0)])]).startswith("data:image/svg+xml")


def test_long_curves_are_averaged_and_short_ones_left_as_they_are():
    long = Curve("long", [(float(i), float(i % 2)) for i in range(1, 801)]).thinned()
    assert len(long.points) == 267
    assert long.points[0] == (2.0, pytest.approx(2 / 3))
    assert long.points[-1] == (799.5, 0.5)
    short = Curve("short", [(1.0, 2.0), (3.0, 4.0)])
    assert short.thinned() == short
    assert Curve("none", []).thinned().points == []


def test_the_steep_start_of_a_long_run_does_not_flatten_the_rest():
    falling = Curve("long", [(float(i), 10.0 if i < 10 else 3.0) for i in range(1000)])
    assert report_charts.upper_limit([falling, Curve("none", [])]) == 3.0
    assert report_charts.upper_limit([falling, Curve("brief", [(1.0, 9.0), (2.0, 8.0)])]) == 8.0
    assert report_charts.upper_limit([Curve("short", falling.points[:20])]) is None


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (200, "200"), (2e4, "20k"), (1.5e6, "1.5M"), (2.5e9, "2.5B")])
def test_token_counts_are_short(value, text):
    assert report_charts.short_number(value) == text


def test_a_name_of_a_run_is_never_markup(tmp_path):
    page = render(read_runs([write_run(tmp_path / "<b>&")]))
    assert "<b>" not in page
    assert "&lt;b&gt;&amp;" in page


def test_runs_of_the_same_name_are_told_apart_by_their_paths(tmp_path):
    folders = [write_run(tmp_path / "a" / "run"), write_run(tmp_path / "b" / "run")]
    assert [run.name for run in read_runs(folders)] == folders


def test_a_page_is_replaced_only_when_asked(two_runs, tmp_path):
    output = tmp_path / "report.html"
    output.write_text("mine")
    with pytest.raises(UserError, match="--output must be a new file"):
        write_report(two_runs, str(output))
    assert output.read_text() == "mine"
    write_report(two_runs, str(output), overwrite=True)
    assert output.read_text().startswith("<!DOCTYPE html>")


def test_a_folder_without_a_run_is_refused_and_no_page_written(two_runs, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"must have metrics.*empty has none in metrics.jsonl"):
        write_report([*two_runs, str(tmp_path / "empty")], str(tmp_path / "report.html"))
    (tmp_path / "gpt" / "run.json").write_text('{"model_config": {}, "train_config": {"batch_size": 4}}')
    with pytest.raises(UserError, match=r"run.json must describe a run"):
        write_report(two_runs, str(tmp_path / "report.html"))
    (tmp_path / "gpt" / "run.json").unlink()
    with pytest.raises(UserError, match=r"must hold run.json"):
        write_report(two_runs, str(tmp_path / "report.html"))
    with pytest.raises(UserError, match="named more often"):
        write_report([two_runs[1], two_runs[1] + "/"], str(tmp_path / "report.html"))
    assert not (tmp_path / "report.html").exists()


def test_a_missing_matplotlib_is_named_with_what_to_install(two_runs, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[report\]'"):
        render(read_runs(two_runs))


def test_the_tool_reports_runs_and_prints_their_figures(scripts, two_runs, tmp_path):
    from command_line import call

    outcome = call(scripts["data_tools/report.py"]["main"], [*two_runs, "--output", str(tmp_path / "r.html")])
    assert [run["tokens/s"] for run in outcome.result["runs"]] == [2222.0, 1020.0]
    assert (tmp_path / "r.html").is_file()


def figure_of(page, title):
    """A chart and its caption, by the chart's title; None if the page does not have it."""
    found = re.search(rf"<figure><h2>{title}</h2>.*?</figure>", page)
    return found and found[0]


def test_a_benchmark_is_drawn_beside_its_published_figures_where_a_run_has_it(tmp_path):
    folders = [write_run(tmp_path / "a", benchmarks={"hellaswag_acc_norm_tokens": 0.27}), write_run(tmp_path / "b")]
    page = render(read_runs(folders))
    figure = figure_of(page, "HellaSwag")
    gpt2, gpt3 = BASELINES["hellaswag_acc_norm_tokens"]
    assert (gpt2.value, gpt3.value) == (0.2955, 0.337)
    for baseline in (gpt2, gpt3):
        assert f"{baseline.model}: {baseline.value:g} ({baseline.source})." in figure
        assert f">{baseline.model}</text>" in charts_in(figure)[0]
    assert charts_in(figure)[0].count(f"stroke: {report_charts.BASELINE_COLOUR}") == 2
    assert "Not logged: b." in figure
    assert figure_of(page, "WikiText") is None
    assert figure_of(render(read_runs(folders[1:])), "HellaSwag") is None


def heights_of(chart, curves):
    """The heights, from the top of the image, at which a chart draws its level lines of published figures."""
    image = base64.b64decode(svg_data_uri(chart, curves).removeprefix("data:image/svg+xml;base64,")).decode()
    path = r'<path d="M [\d.]+ ([\d.]+) *\n?L [\d.]+ ([\d.]+) *\n?" [^>]*stroke: ' + report_charts.BASELINE_COLOUR
    return [float(left) for left, right in re.findall(path, image) if left == right]


def test_a_published_figure_is_drawn_at_its_own_height_and_never_outside_the_chart():
    chart = dataclasses.replace(
        Chart("loss", "Loss", "nats", falls=True), baselines=VALIDATION_BASELINES["fineweb-edu"]
    )
    long = Curve("long", [(float(i), 10.0 if i < 10 else 2.0) for i in range(1000)])
    (height,) = heights_of(chart, [long])
    assert 0 < height < IMAGE_HEIGHT / 2, "above 2.0 by the whole chart, because the figure, 3.29, is its upper limit"
    assert report_charts.upper_limit([long], chart.baselines) == 3.2924
    above = dataclasses.replace(chart, baselines=(chart.baselines[0], chart.baselines[0]._replace(value=2.5)))
    first, second = heights_of(above, [long])
    assert first < second, "2.5 is below 3.29"


def test_losses_are_drawn_beside_those_of_a_data_set_only_where_the_tokenizer_is_the_same(tmp_path):
    large = dataclasses.replace(GPT2_CONFIG, vocab_size=50257)
    folders = [write_run(tmp_path / "a", large), write_run(tmp_path / "b", large)]
    figure = figure_of(render(read_runs(folders), "openwebtext"), "Validation loss")
    assert "GPT-2 124M: 3.11 (README of github.com/karpathy/nanoGPT, on OpenWebText)." in figure
    assert figure_of(render(read_runs(folders)), "Validation loss") is None
    other = write_run(tmp_path / "c", dataclasses.replace(GPT2_CONFIG, vocab_size=50256))
    with pytest.raises(UserError, match="must have GPT-2's tokenizer of 50257 ids, and c has 50256"):
        render(read_runs([*folders, other]), "openwebtext")


def test_only_the_figures_of_the_official_test_file_stand_beside_published_ones(tmp_path):
    names = ("wikitext_test_word_perplexity", "wikitext_word_perplexity")
    page = render(read_runs([write_run(tmp_path / "a", benchmarks=dict.fromkeys(names, 90.0))]))
    assert "GPT-2 124M: 37.37 (" in figure_of(page, "WikiText, test")
    assert "GPT-2" not in figure_of(page, "WikiText, another text")


@pytest.mark.parametrize("chart", [chart for chart in BENCHMARK_CHARTS if chart.baselines], ids=lambda chart: chart.key)
def test_a_curve_passes_through_the_published_figures_of_its_benchmark(chart):
    values = [baseline.value for baseline in chart.baselines]
    curve = Curve(
        "a", [(float(i), 100 * max(values) * (0.005 * min(values) / max(values)) ** (i / 39)) for i in range(40)]
    )
    heights = heights_of(chart, [curve])
    assert len(heights) == len(values)
    assert all(0.3 * IMAGE_HEIGHT < height < 0.9 * IMAGE_HEIGHT for height in heights)
