"""The pages of docs/reference say what the code says: every flag, its default and choices, and every preset."""

import argparse
import json
import re
from pathlib import Path

import pytest
from command_line import call
from places import REPOSITORY

REFERENCE = "docs/reference/generate.py"
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")


@pytest.fixture
def reference(scripts):
    return scripts[REFERENCE]


def a_parser(default="3", help_text="how many there are (default: 3)"):
    parser = argparse.ArgumentParser(description="Counts sheep.")
    parser.add_argument("--sheep", default=default, choices=["2", "3"], help=help_text)
    return parser


def test_the_committed_pages_are_those_that_the_code_gives(reference):
    outcome = call(reference["main"], ["--check", "--folder", str(REPOSITORY / "docs/reference")])
    assert outcome.status == 0, outcome.stderr


def test_a_page_that_differs_or_is_missing_is_refused_by_check_and_written_without(reference, tmp_path):
    written = call(reference["main"], ["--folder", str(tmp_path)]).result["written"]
    assert [Path(path).name for path in written] == ["flags.md", "presets.md", "recipes.md"]
    assert call(reference["main"], ["--folder", str(tmp_path)]).result == {"written": []}
    page = tmp_path / "presets.md"
    page.write_text(page.read_text().replace("124,439,808", "124,439,809"))
    outcome = call(reference["main"], ["--check", "--folder", str(tmp_path)])
    assert outcome.status == 2
    assert "presets.md" in outcome.sentence
    assert "flags.md" not in outcome.sentence


def test_every_flag_that_a_script_helps_with_has_an_entry_in_its_section(scripts):
    sections = (REPOSITORY / "docs/reference/flags.md").read_text().split("\n## ")[1:]
    entries = {section.splitlines()[0]: FLAG.findall(rows_of(section)) for section in sections}
    assert set(entries) == set(scripts)
    for script, functions in scripts.items():
        usage = call(functions["parse"], ["--help"]).stdout.split("\n\n")[0]
        helped = set(FLAG.findall(usage)) - {"--help", "--helpfull"}
        assert helped <= set(entries[script]), script


def test_every_flag_of_training_is_in_a_guide(scripts):
    guides = "".join(file.read_text() for file in (REPOSITORY / "docs/guide").glob("*.md"))
    told = {flag.replace("--no-", "--") for flag in FLAG.findall(guides)}
    usage = call(scripts["train_tfrecords.py"]["parse"], ["--help"]).stdout.split("\n\n")[0]
    flags = {flag.replace("--no-", "--") for flag in FLAG.findall(usage)} - {"--help", "--helpfull"}
    assert len(flags) > 50
    assert flags <= told


def rows_of(section):
    """The first cells of a section's tables."""
    return "\n".join(line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `"))


def test_a_flag_a_default_and_a_choice_change_the_page(reference):
    page = reference["flags_page"]({"count.py": a_parser()})
    assert "| `--sheep` | 2, 3 | 3 | how many there are |" in page
    assert page != reference["flags_page"]({"count.py": a_parser("2", "how many there are")})
    longer = a_parser()
    longer.add_argument("--goats", help="as well")
    assert "| `--goats` | text | - | as well |" in reference["flags_page"]({"count.py": longer})


def test_a_help_text_that_tells_another_default_than_the_one_that_holds_is_refused(reference):
    outcome = call(lambda _: reference["flags_page"]({"count.py": a_parser(default="2")}) and 0, [])
    assert outcome.status == 2
    assert "tells 3 where 2 holds" in outcome.sentence


def test_a_flag_without_a_help_text_is_refused(reference):
    outcome = call(lambda _: reference["flags_page"]({"count.py": a_parser(help_text=None)}) and 0, [])
    assert outcome.status == 2
    assert "`--sheep`" in outcome.sentence


def test_the_sizes_of_a_preset_are_those_counted_by_hand(reference):
    presets = json.loads((REPOSITORY / "algpt2/config/presets/gpt2.json").read_text())
    d, layers, positions, vocabulary = (presets[name] for name in ("d_model", "n_layer", "seq_len", "vocab_size"))
    parameters = vocabulary * d + positions * d + layers * (12 * d * d + 13 * d) + 2 * d
    flops = 6 * (parameters - positions * d) + 12 * layers * d * positions
    assert f"| gpt2 | {parameters:,} | {12 * parameters:,} | {flops:,} |" in reference["presets_page"]()
