import base64
import json
import re

import pytest
from command_line import call
from small_study import SPEC, bits_of, changed, confirmation_seed_missing, write_study

from algpt2.errors import UserError
from algpt2.studies.charts import Points, upper_limit
from algpt2.studies.hparams import cell_settings
from algpt2.studies.report import make_report, write_report
from algpt2.studies.statistics import Estimate

pytest.importorskip("matplotlib")
pytest.importorskip("scipy")

SCRIPT = "ablations/report.py"
PLOTS = ("rates", "parameters", "flops", "differences", "gaps")
LARGEST_PLOT_BYTES = 60_000


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    return make_report(write_study(tmp_path_factory.mktemp("study")))


def row_of(report, heading, first_cell):
    """The cells of a row in the Markdown report, by its section and its first cell."""
    section = report.files["report.md"].decode().split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if "|" in line]
    return next(row for row in rows if row[0] == first_cell)


def without_speed(report):
    return {name: content.split(b"Speed")[0] for name, content in report.files.items()}


def test_the_tables_say_mean_interval_and_n(report):
    assert row_of(report, "Arms", "gpt2")[-4:] == ["1.8533", "1.8154 to 1.8913", "0.0153", "3"]
    assert row_of(report, "Learning rates", "gpt2")[1:] == ["0.001", "2.0500", "none", "1", "0", "0", ""]
    pair = row_of(report, "Differences", "shared - gpt2")
    assert pair[1] == "+0.2300"
    assert pair[3:5] == ["0.0100", "+0.5520"]
    assert pair[-2:] == ["3", "the interval does not contain zero: shared is worse than gpt2"]
    gap = row_of(report, "Gaps closed", "shared - gpt2")
    assert gap[6] == "0.580"
    assert gap[8] == "0.591 0.543 0.604"
    assert gap[-1] == "the interval does not contain zero: the change closes a part of the gap"


def test_an_interval_that_contains_zero_is_told_in_words(report):
    verdict = row_of(report, "Differences", "wide - gpt2")[-1]
    assert verdict == "the interval contains zero: the seeds do not tell the two apart"


def test_the_decision_rule_stands_beside_the_tables_that_it_judges(report):
    rule = "Decision rule, written before the runs: A change is kept if its interval does not contain zero."
    assert report.files["report.md"].decode().count(rule) == 3
    assert report.files["report.html"].decode().count(rule) == 3
    assert report.text.count(rule) == 3


def test_a_study_without_pairs_tells_its_rule_too(tmp_path):
    text = make_report(write_study(tmp_path, SPEC.partition("[[pairs]]")[0])).text
    assert text.count("Decision rule, written before the runs: A change is kept") == 1
    assert "DIFFERENCES" not in text


def test_failed_and_missing_cells_are_listed_with_their_reasons(tmp_path):
    def bits(cell):
        return "the loss\nis | not finite" if (cell.arm, cell.learning_rate) == ("wide", 1e-2) else missing(cell)

    missing = confirmation_seed_missing("shared", 12)
    report = make_report(write_study(tmp_path, bits=bits))
    title = "Cells that failed or are missing"
    assert row_of(report, title, "wide")[1:] == ["0.01", "1", "selection", "failed", "the loss is \\| not finite"]
    assert row_of(report, title, "shared")[1:] == ["0.003", "12", "confirmation", "missing", "it has not run yet"]
    assert "shared - gpt2: n = 2; not finished: seed 12." in report.files["report.md"].decode()
    assert "shared: n = 2; not finished: seed 12." in report.text
    assert {(one["arm"], one["status"]) for one in report.figures["unfinished"]} == {
        ("wide", "failed"),
        ("shared", "missing"),
    }


def test_one_seed_and_selection_cells_are_told_to_say_little(tmp_path):
    one = make_report(write_study(tmp_path / "one", SPEC.replace("[11, 12, 13]", "[11]")))
    assert "One seed gives no interval." in one.text
    assert "one seed: no interval, so it may be chance" in one.text
    screening = make_report(write_study(tmp_path / "screening", SPEC.replace("[11, 12, 13]", "[]")))
    assert "these are the cells by which the rates were chosen" in screening.text
    assert "these are the cells by which the rates were chosen" not in one.text
    given = SPEC.replace("[11, 12, 13]", "[]").replace("[1e-3, 3e-3, 1e-2]", "[3e-3]")
    assert "these are the cells" not in make_report(write_study(tmp_path / "given", given)).text


def test_other_training_data_is_told_beside_the_difference(tmp_path):
    spec = SPEC.replace("[arms.wide]", '[arms.wide]\nrecords = "legacy"')
    text = make_report(write_study(tmp_path, spec)).text
    assert "wide - gpt2: the training data differs" in text
    assert "wide: trained on other records than the study's, `legacy`." in text
    assert "shared - gpt2: the training data differs" not in text


def test_bugs_of_2020_that_an_arm_has_are_told_beside_it(tmp_path):
    bug = "adafactor_without_memory"
    spec = SPEC.replace("[arms.wide]", f'[arms.wide]\ntraining = {{ optimizer = "adafactor" }}\nbugs = ["{bug}"]')
    study = write_study(tmp_path, spec)
    assert f"- wide: trained with `{bug}` of 2020." in make_report(study).text
    settings = cell_settings(study)
    assert settings["wide/lr-0.003-seed-11"]["bugs"] == bug
    assert settings["gpt2/lr-0.003-seed-11"]["bugs"] == ""


def test_equal_results_make_equal_bytes_and_a_clock_only_changes_the_last_section(tmp_path, report):
    again = make_report(write_study(tmp_path / "again"))
    assert again == report
    slower = make_report(write_study(tmp_path / "slower", tokens_per_second=lambda cell: 500.0 + cell.seed))
    assert slower.files["report.md"] != report.files["report.md"]
    assert without_speed(slower) == without_speed(report)
    assert {**slower.figures, "speeds": None} == {**report.figures, "speeds": None}
    assert row_of(slower, "Speed", "gpt2")[1:] == ["506", "6"], "the median of 501 three times, 511, 512 and 513"


def test_the_page_needs_nothing_but_itself_and_shows_every_plot(report):
    page = report.files["report.html"].decode()
    assert not re.search(r"(src|href)=\"(?!data:)|<script|<link|@import|url\(", page)
    images = [base64.b64decode(data) for data in re.findall(r'src="data:image/svg\+xml;base64,(.*?)"', page)]
    plots = {name: report.files[f"plots/{name}.svg"] for name in PLOTS}
    assert sorted(images) == sorted(plots.values())
    for name in PLOTS:
        assert f"(plots/{name}.svg)" in report.files["report.md"].decode()


def test_the_plots_are_small_and_say_what_is_on_their_axes(report):
    labels = {
        "rates": "peak learning rate",
        "parameters": "parameters",
        "flops": "training FLOPs of a cell",
        "differences": "difference in validation bits per byte",
        "gaps": "fraction of the gap that is closed",
    }
    for name, label in labels.items():
        image = report.files[f"plots/{name}.svg"]
        assert len(image) < LARGEST_PLOT_BYTES
        assert f">{label}</text>" in image.decode()
    for name in ("rates", "parameters", "flops"):
        image = report.files[f"plots/{name}.svg"].decode()
        assert ">validation bits per byte</text>" in image
        for arm in ("gpt2", "shared", "wide", "shared-wide"):
            assert f">{arm}</text>" in image
    assert ">shared - gpt2 (n = 3)</text>" in report.files["plots/differences.svg"].decode()


def test_a_study_without_results_has_a_report_without_plots(tmp_path):
    report = make_report(write_study(tmp_path, bits=lambda cell: None))
    assert set(report.files) == {"report.md", "report.html"}
    assert "No cell at a chosen rate has finished yet." in report.text


def test_a_loss_that_nearly_diverged_does_not_flatten_the_chart():
    def points(*bits):
        return Points("arm", [(10.0**-i, Estimate(one, None, None, 1)) for i, one in enumerate(bits)])

    assert upper_limit([points(1.85, 2.0), points(2.05, 7.0)]) == pytest.approx(2.65)
    assert upper_limit([points(1.85, 2.0), points(2.05, 2.2)]) is None
    assert upper_limit([points(1.85, 7.0)]) is None
    assert upper_limit([points(1.85, 2.0), points()]) is None


def test_what_a_spec_says_is_never_markup(tmp_path):
    spec = SPEC.replace("What does sharing cost?", "Is <b>this</b> & that dear?")
    page = make_report(write_study(tmp_path, spec)).files["report.html"].decode()
    assert "<h1>Is &lt;b&gt;this&lt;/b&gt; &amp; that dear?</h1>" in page


def test_a_report_replaces_a_report_and_nothing_else(tmp_path, report):
    write_report(report, str(tmp_path))
    write_report(report, str(tmp_path))
    assert (tmp_path / "report.md").read_bytes() == report.files["report.md"]
    (tmp_path / "report.md").write_text("my own notes")
    (tmp_path / "report.html").write_text("older")
    with pytest.raises(UserError, match=r"report\.md was not made by ablations/report\.py"):
        write_report(report, str(tmp_path))
    assert (tmp_path / "report.md").read_text() == "my own notes"


def test_the_script_prints_tables_and_json_and_writes_the_files(scripts, tmp_path):
    write_study(tmp_path)
    outcome = call(scripts[SCRIPT]["main"], [str(tmp_path)])
    assert outcome.result["differences"][0]["bits_per_byte"]["n"] == 3
    assert outcome.result["gaps"][0]["closed"]["mean"] == pytest.approx(1 - 0.29 / 0.69)
    assert len(outcome.result["cells"]) == 24
    assert "| shared - gpt2" in outcome.stderr
    assert all((tmp_path / file).is_file() for file in outcome.result["files"])
    again = call(scripts[SCRIPT]["main"], [str(tmp_path)])
    assert json.loads(again.stdout) == json.loads(outcome.stdout)


def test_the_script_refuses_a_folder_without_a_study_and_cells_that_differ(scripts, tmp_path):
    outcome = call(scripts[SCRIPT]["main"], [str(tmp_path)])
    assert outcome.status == 2
    assert "must hold study.json" in outcome.sentence
    write_study(tmp_path, bits=bits_of, change=changed("wide", val_fingerprint="x"))
    outcome = call(scripts[SCRIPT]["main"], [str(tmp_path)])
    assert outcome.status == 2
    assert "must have the same validation data" in outcome.sentence
    assert not (tmp_path / "report.md").exists()
