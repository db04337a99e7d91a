"""A study's cells as TensorBoard itself reads them."""

import sys

import pytest
from small_study import SPEC, bits_of, write_study

from algpt2.errors import UserError
from algpt2.studies.hparams import cell_settings, write_hparams

accumulator = pytest.importorskip("tensorboard.backend.event_processing.plugin_event_accumulator")
metadata = pytest.importorskip("tensorboard.plugins.hparams.metadata")


@pytest.fixture
def study(tmp_path):
    return write_study(tmp_path, SPEC.replace("{ d_ff = 1024 }", "{ d_ff = 1024, dropout = 0.0 }"))


def read(folder):
    found = accumulator.EventAccumulator(str(folder))
    found.Reload()
    return found


def plugin_content(found, tag):
    return found.SummaryMetadata(tag).plugin_data.content


def test_a_cell_is_a_run_with_its_settings_and_figures(study, tmp_path):
    write_hparams(study, str(tmp_path))
    found = read(tmp_path / "tensorboard/wide/lr-0.003-seed-12")
    info = metadata.parse_session_start_info_plugin_data(plugin_content(found, metadata.SESSION_START_INFO_TAG))
    values = {name: getattr(value, value.WhichOneof("kind")) for name, value in info.hparams.items()}
    assert (values["arm"], values["learning_rate"], values["seed"]) == ("wide", 0.003, 12)
    assert (values["model.d_ff"], values["model.share_layers"], values["model.dropout"]) == ("1024", "False", 0.0)
    assert info.group_name == "wide/lr-0.003-seed-12"
    for tag, value in {"validation/bits_per_byte": 1.865, "speed/tokens_per_second": 1000.0}.items():
        (point,) = found.Tensors(tag)
        assert (point.step, point.tensor_proto.float_val[0]) == (0, pytest.approx(value))


def test_the_page_knows_every_setting_with_its_values_and_every_metric(study, tmp_path):
    write_hparams(study, str(tmp_path))
    content = plugin_content(read(tmp_path / "tensorboard"), metadata.EXPERIMENT_TAG)
    experiment = metadata.parse_experiment_plugin_data(content)
    domains = {one.name: [*one.domain_discrete] for one in experiment.hparam_infos}
    assert domains["learning_rate"] == [0.001, 0.003, 0.01]
    assert domains["model.share_layers"] == ["False", "True"]
    assert [one.name.tag for one in experiment.metric_infos] == [
        "validation/bits_per_byte",
        "validation/nats_per_token",
        "speed/tokens_per_second",
    ]


def test_only_finished_cells_are_runs_and_writing_again_replaces_them(study, tmp_path):
    files = write_hparams(study, str(tmp_path))
    assert len(files) == 1 + 24
    assert write_hparams(study, str(tmp_path)) == files
    assert sorted(str(file.relative_to(tmp_path)) for file in tmp_path.glob("tensorboard/**/events*")) == sorted(files)
    partial = write_study(tmp_path / "partial", bits=lambda cell: bits_of(cell) if cell.arm == "gpt2" else "it failed")
    assert {settings["arm"] for settings in cell_settings(partial).values()} == {"gpt2"}


def test_nothing_is_written_of_a_study_without_results_but_the_metrics(tmp_path):
    empty = write_study(tmp_path, bits=lambda cell: None)
    assert len(write_hparams(empty, str(tmp_path))) == 1


def test_a_missing_tensorboard_is_named_with_what_to_install(study, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.plugins.hparams.summary_v2", None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[tensorboard\]'"):
        write_hparams(study, str(tmp_path))
    assert not (tmp_path / "tensorboard").exists()


def test_tensorflow_is_not_needed(study, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert write_hparams(study, str(tmp_path))
