"""What is known of a TPU's memory, in a file of its own beside the results."""

import json
from typing import Any, NamedTuple

import pytest
from command_line import STUDY
from tiny_study import SPEC, record_of

from algpt2.devices import wheels
from algpt2.errors import UserError
from algpt2.preflight import rehearsal
from algpt2.studies.results import read_study


class Found(NamedTuple):
    """Stands for a `Rehearsal`."""

    pod: str
    libtpu: str
    peak_hbm_bytes: int
    fits: bool

    def figures(self) -> dict[str, Any]:
        return {"peak_hbm_bytes": self.peak_hbm_bytes}


@pytest.fixture
def rehearse(run_script, records_folder, tmp_path, monkeypatch):
    """Calls the script where a step takes as many bytes as its model has parameters, of a memory of so many."""

    def rehearse(memory_bytes=10**9, **changes):
        def rehearse(model_config, train_config, pod_name, search):
            assert not search
            assert train_config.batch_size == 4
            parameters = model_config.parameter_count()
            return Found(pod_name, "0.0.30", parameters, parameters <= memory_bytes)

        monkeypatch.setattr(rehearsal, "rehearse", rehearse)
        monkeypatch.setattr(wheels, "require_tensorflow", lambda: None)
        flags = {"train_path": None, "val_path": None, "rehearse": "v3-8", **changes}
        return run_script(STUDY, {"good": records_folder, "out": tmp_path / "out"}, **flags)

    return rehearse


def test_the_peaks_of_arms_are_printed_and_kept_for_the_report(rehearse, tmp_path):
    record, output = record_of(SPEC), str(tmp_path / "out")
    record.write(output)
    outcome = rehearse(only="shared")
    peak = record.spec.model_config(record.spec.arm("shared")).parameter_count()
    assert outcome.result == {"shared": {"peak_hbm_bytes": peak}}
    assert "shared" in outcome.stderr
    assert {(one.cell.arm, one.rehearsed_peak_bytes) for one in read_study(output).results} == {
        ("gpt2", None),
        ("shared", peak),
    }


def test_a_step_that_does_not_fit_is_told_by_the_status(rehearse, tmp_path):
    outcome = rehearse(memory_bytes=0, output=None)
    assert outcome.status == 2
    assert outcome.stderr.count("DOES NOT FIT") == 2
    assert set(json.loads(outcome.stdout)) == {"gpt2", "shared"}


def test_a_folder_of_another_study_is_refused_before_anything_is_compiled(rehearse, tmp_path):
    record_of(SPEC.replace("1280", "640")).write(str(tmp_path / "out"))
    assert "holds one of other tokens" in rehearse().sentence


def test_a_file_that_is_none_is_refused(tmp_path):
    record_of(SPEC).write(str(tmp_path))
    (tmp_path / "rehearsed.json").write_text("{}")
    with pytest.raises(UserError, match="must be what ablations/run.py --rehearse writes"):
        read_study(str(tmp_path))
