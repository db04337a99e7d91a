"""A folder that appears whole or not at all."""

import os
from pathlib import Path

import pytest

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.storage.local import LocalStorage


def fill(folder, error=None):
    (Path(folder) / "MARKER").write_text("last")
    (Path(folder) / "sub").mkdir()
    (Path(folder) / "sub" / "a.txt").write_text("first")
    if error:
        raise error


def write_filled(out, error=None):
    with storage.writing_folder(out, "MARKER") as folder:
        fill(folder, error)


@pytest.fixture(params=["disk", "gs"])
def places(request, tmp_path):
    """Where output may be, on either storage."""
    return str(tmp_path) if request.param == "disk" else f"{request.getfixturevalue('bucket')}/{tmp_path.name}"


def contents(folder):
    return {path.removeprefix(folder + "/"): storage.read_text(path) for path in storage.of(folder).list_files(folder)}


@pytest.mark.parametrize("end", ["", "/"])
def test_all_files_are_there_when_the_block_has_ended_and_none_before(places, end):
    out = f"{places}/out"
    with storage.writing_folder(out + end, "MARKER") as folder:
        fill(folder)
        assert not storage.exists(out)
    assert contents(out) == {"MARKER": "last", "sub/a.txt": "first"}


def test_the_marker_is_moved_last(places, monkeypatch):
    kind, moved = type(storage.of(places)), []
    publish = kind.publish
    monkeypatch.setattr(kind, "publish", lambda self, file, path: moved.append(path) or publish(self, file, path))
    with storage.writing_folder(f"{places}/out", "MARKER") as folder:
        fill(folder)
    assert [storage.base_name(path) for path in moved] == ["a.txt", "MARKER"]


def test_nothing_stays_of_a_block_that_fails(tmp_path):
    with pytest.raises(KeyError):
        write_filled(str(tmp_path / "out"), KeyError())
    assert os.listdir(tmp_path) == []


def test_nothing_stays_of_moves_that_fail(places, monkeypatch):
    kind = type(storage.of(places))
    publish = kind.publish

    def failing(self, file, path):
        if path.endswith("MARKER"):
            raise OSError(28, "No space left on device", file)
        publish(self, file, path)

    monkeypatch.setattr(kind, "publish", failing)
    with pytest.raises(OSError, match="No space left"):
        write_filled(f"{places}/out")
    assert not storage.exists(f"{places}/out")
    assert storage.is_remote(places) or os.listdir(places) == []


def test_an_empty_folder_is_filled_and_stays_after_a_failure_as_it_was(tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    publish = LocalStorage.publish
    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "publish", lambda self, file, path: publish(self, file, path) or raise_full())
        with pytest.raises(OSError, match="disk"):
            write_filled(str(out))
    assert os.listdir(out) == []
    write_filled(str(out))
    assert sorted(os.listdir(out)) == ["MARKER", "sub"]


def raise_full():
    raise OSError("full disk")


def test_what_a_killed_process_left_goes_and_what_is_named_alike_stays(tmp_path):
    out = tmp_path / "out"
    for name in (".tmp-folder-killed", ".tmp-mine"):
        (out / name).mkdir(parents=True)
        (out / name / "model.safetensors").write_text("half")
    write_filled(str(out))
    assert sorted(os.listdir(out)) == [".tmp-mine", "MARKER", "sub"]


def test_a_folder_that_holds_something_is_refused_before_the_block(places):
    storage.write_text(f"{places}/out/mine", "mine")
    with pytest.raises(UserError, match="must be new or empty"), storage.writing_folder(f"{places}/out", "MARKER"):
        pytest.fail("the block must not run")
    assert contents(f"{places}/out") == {"mine": "mine"}


def test_an_error_of_a_full_disk_names_the_output(tmp_path):
    out = str(tmp_path / "out")
    with pytest.raises(OSError, match="No space") as raised, storage.writing_folder(out, "MARKER") as folder:
        raise OSError(28, "No space left on device", f"{folder}/model.safetensors")
    assert raised.value.filename == f"{out}/model.safetensors"
