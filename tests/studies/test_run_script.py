"""`ablations/run.py`: what it lists, and what it refuses before it writes anything."""

import pytest
from command_line import STUDY
from tiny_study import SELECTING, SPEC, record_of


@pytest.fixture
def call(run_script, records_folder, tmp_path):
    """Calls the script on the session's records, with an output that is not there yet."""

    def call(**changes):
        flags = {"train_path": records_folder, "val_path": records_folder, **changes}
        return run_script(STUDY, {"good": records_folder, "out": tmp_path / "out"}, **flags)

    return call


def test_a_list_needs_the_spec_alone_and_writes_nothing(call, tmp_path):
    outcome = call(list=True, train_path=None, val_path=None, output=None, tokens_per_second=1280 / 3600)
    cells = {row["stage"]: row["cells"] for row in outcome.result}
    assert cells == {"selection": 0, "confirmation": 4, "total": 4}
    assert outcome.result[-1]["hours"] == pytest.approx(4)
    assert "hours left" in outcome.stderr
    assert call(list=True, only="shared").result[-1]["cells"] == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"SPEC": "none.toml"}, "a study must be a TOML file, and nothing is at 'none.toml'"),
        ({"train_path": None}, "--train_path must be given"),
        ({"val_path": None}, "--val_path must be given"),
        ({"output": None}, "--output must be given"),
        ({"only": "gpt3"}, "an arm must be one of gpt2, shared, received 'gpt3'"),
        ({"jobs": 0}, "--jobs must be from 1"),
        ({"arm_records": "legacy"}, "--arm_records must be NAME=PATH"),
        ({"train_path": "none"}, "--train_path must name an existing folder"),
        ({"list": True, "flops_per_second": 0}, "--flops_per_second must be a finite number above 0"),
        ({"save_every_steps": 0}, "save_every_steps must be at least 1"),
    ],
)
def test_what_is_wrong_is_refused_in_one_sentence_and_nothing_is_written(call, changes, sentence, tmp_path):
    outcome = call(**changes)
    assert (outcome.status, outcome.stdout) == (2, "")
    assert sentence in outcome.sentence
    assert not (tmp_path / "out").exists()


def test_a_list_of_another_study_than_the_folders_is_refused(call, tmp_path):
    record_of(SELECTING).write(str(tmp_path / "out"))
    assert call(list=True).sentence.startswith("error: --output must be new or hold the same study")
    record_of(SPEC).write(str(tmp_path / "out"))
    assert call(list=True).status == 0


def test_records_of_another_study_are_refused(call, tmp_path):
    record_of(SPEC).write(str(tmp_path / "out"))
    assert "holds one of others: name another" in call().sentence
