"""The folder of a checkpoint: found, checked, committed and deleted, whatever happened to it."""

import json
import shutil
from pathlib import Path

import pytest
from tiny_checkpoints import save_step

from algpt2 import storage
from algpt2.checkpoints import folder as checkpoint_folder_module
from algpt2.checkpoints.folder import (
    Checkpoint,
    checkpoint_folder,
    committed_checkpoints,
    delete_checkpoint,
    delete_old_checkpoints,
    delete_unfinished_checkpoints,
    deleted_on_failure,
    find_checkpoint,
    newest_intact_checkpoint,
)
from algpt2.errors import UserError
from algpt2.storage.cloud import CloudStorage
from algpt2.storage.local import LocalStorage


def test_a_checkpoint_without_its_marker_does_not_exist(tmp_path):
    older, *_ = save_step(tmp_path, 1)
    newer, *_ = save_step(tmp_path, 2)
    (Path(newer) / "COMMITTED").unlink()
    assert newest_intact_checkpoint(str(tmp_path)).folder == older
    delete_unfinished_checkpoints(str(tmp_path))
    assert not Path(newer).exists()
    assert Path(older).exists()


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "config.json", "state.json"])
def test_a_flipped_bit_is_found_and_the_checkpoint_before_is_taken(tmp_path, name):
    older, *_ = save_step(tmp_path, 1)
    newer, *_ = save_step(tmp_path, 2)
    file = Path(newer) / name
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)
    assert name in Checkpoint(newer).find_damage()
    assert newest_intact_checkpoint(str(tmp_path)).folder == older
    with pytest.raises(UserError, match="SHA-256"):
        find_checkpoint(newer)


def test_a_missing_file_counts_as_damage(tmp_path):
    folder, *_ = save_step(tmp_path)
    (Path(folder) / "model.safetensors").unlink()
    assert "model.safetensors is missing" in Checkpoint(folder).find_damage()
    assert newest_intact_checkpoint(str(tmp_path)) is None


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    folders = [save_step(tmp_path, step)[0] for step in (1, 2, 10)]
    delete_old_checkpoints(str(tmp_path), keep=2)
    assert committed_checkpoints(str(tmp_path)) == folders[1:]
    assert not Path(folders[0]).exists()


def test_a_runs_folder_stands_for_its_newest_checkpoint(tmp_path):
    save_step(tmp_path, 1)
    newest, *_ = save_step(tmp_path, 2)
    assert find_checkpoint(str(tmp_path)).folder == newest
    assert find_checkpoint(newest + "/").folder == newest


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(UserError, match="has no COMMITTED"):
        find_checkpoint(str(tmp_path))


def test_damage_on_cloud_storage_is_found(bucket, tmp_path):
    folder, *_ = save_step(f"{bucket}/{tmp_path.name}")
    data = storage.read_bytes(f"{folder}/model.safetensors")
    storage.write_bytes(f"{folder}/model.safetensors", data[:-1] + bytes([data[-1] ^ 1]))
    assert "model.safetensors has another SHA-256" in Checkpoint(folder).find_damage()
    storage.of(folder).delete_file(f"{folder}/config.json")
    assert Checkpoint(folder).find_damage() is not None
    storage.write_bytes(f"{folder}/model.safetensors", data)
    assert "config.json is missing" in Checkpoint(folder).find_damage()


@pytest.mark.parametrize(
    ("changes", "found"),
    [({"step": "7"}, 'its step is "7"'), ({"steps": 7}, "unknown keys"), ({"files_sha256": {"a": 1}}, "sha256.a is 1")],
)
def test_a_state_of_another_kind_is_refused(tmp_path, changes, found):
    folder, *_ = save_step(tmp_path)
    path = Path(folder) / "state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(UserError, match=f"{path} must say where a run stood, and .*{found}"):
        Checkpoint(folder).read_state()


def test_a_state_of_before_skips_were_kept_is_read(tmp_path):
    folder, *_ = save_step(tmp_path)
    path = Path(folder) / "state.json"
    fields = json.loads(path.read_text())
    del fields["skips"]
    path.write_text(json.dumps(fields))
    assert Checkpoint(folder).read_state().skips is None


def test_a_flipped_bit_of_any_file_is_found(tmp_path):
    """Also of tokenizer.json, without which the weights mean nothing, and of the marker itself."""
    folder, *_ = save_step(tmp_path)
    files = sorted(Path(folder).iterdir())
    assert len(files) == 6
    for file in files:
        whole = file.read_bytes()
        file.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
        assert Checkpoint(folder).find_damage(), file.name
        file.write_bytes(whole)
    assert Checkpoint(folder).find_damage() is None


NOT_OURS = [
    *("step_00000002_backup", "step_2", "step_000000002", "step_0000002x", "step_-0000002", "Step_00000002", "best"),
    *("old/step_00000002", "step_00000001/step_00000002"),
]


@pytest.mark.parametrize("name", NOT_OURS)
def test_a_folder_with_another_name_is_no_checkpoint_and_is_never_deleted(tmp_path, caplog, name):
    """A copy that somebody put beside a run's checkpoints, whole and with its marker."""
    folders = [save_step(tmp_path, step)[0] for step in (1, 3)]
    copy = tmp_path / "checkpoints" / name
    shutil.copytree(folders[1], copy)
    assert committed_checkpoints(str(tmp_path)) == folders
    assert newest_intact_checkpoint(str(tmp_path)).folder == folders[1]
    first = name.split("/")[0]
    warned = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [f"{first} in {tmp_path}/checkpoints is ignored" in one.getMessage() for one in warned] == (
        [True] if first != "step_00000001" else []
    )
    delete_unfinished_checkpoints(str(tmp_path))
    delete_old_checkpoints(str(tmp_path), keep=2)
    assert (copy / "COMMITTED").exists()


def test_unfinished_copies_and_files_of_the_users_stay_beside_the_checkpoints(tmp_path):
    folder, *_ = save_step(tmp_path, 1)
    copy = Path(shutil.copytree(folder, f"{folder}_backup"))
    (copy / "COMMITTED").unlink()
    (tmp_path / "checkpoints" / "notes.txt").write_text("mine")
    delete_unfinished_checkpoints(str(tmp_path))
    assert (tmp_path / "checkpoints" / "notes.txt").read_text() == "mine"
    assert (copy / "model.safetensors").exists()
    assert committed_checkpoints(str(tmp_path)) == [folder]


def test_a_file_of_the_users_in_a_checkpoint_stays_when_the_checkpoint_is_deleted(tmp_path, caplog):
    unfinished, old, _ = [Path(save_step(tmp_path, step)[0]) for step in (1, 2, 3)]
    (unfinished / "COMMITTED").unlink()
    (unfinished / ".tmp-1").write_text("half")
    for folder in (unfinished, old):
        (folder / "notes.txt").write_text("mine")
        (folder / "deeper").mkdir()
        (folder / "deeper" / "state.json").write_text("mine too")
    delete_unfinished_checkpoints(str(tmp_path))
    delete_old_checkpoints(str(tmp_path), keep=1)
    for folder in (unfinished, old):
        assert sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()) == [
            "deeper/state.json",
            "notes.txt",
        ]
        assert f"{folder} keeps {folder}/deeper/state.json, {folder}/notes.txt, which no checkpoint has" in caplog.text
    caplog.clear()
    delete_unfinished_checkpoints(str(tmp_path))
    assert caplog.text == "", "what is left is nothing to be told of at every start"


def test_checkpoints_are_in_the_order_of_their_steps_when_a_step_has_more_digits(tmp_path):
    for step in (10**8, 99_999_999):
        folder = Path(checkpoint_folder(str(tmp_path), step))
        folder.mkdir(parents=True)
        (folder / "COMMITTED").write_text("")
    assert [Path(one).name for one in committed_checkpoints(f"{tmp_path}/")] == ["step_99999999", "step_100000000"]


def test_another_name_is_ignored_on_cloud_storage_too(bucket, tmp_path):
    folder, *_ = save_step(f"{bucket}/{tmp_path.name}", 1)
    run = storage.parent(storage.parent(folder))
    for name in ("COMMITTED", "model.safetensors"):
        storage.write_text(f"{folder}_backup/{name}", "")
    storage.write_text(f"{run}/checkpoints/step_00000002/state.json", "{}")
    assert committed_checkpoints(run) == [folder]
    delete_unfinished_checkpoints(run)
    assert storage.exists(f"{folder}_backup/model.safetensors")
    assert not storage.exists(f"{run}/checkpoints/step_00000002")


def test_what_a_block_wrote_before_it_failed_is_deleted_and_its_error_is_the_one_that_is_seen(tmp_path):
    folder = str(tmp_path / "checkpoints" / "step_00000001")

    def fail_half_way():
        with deleted_on_failure(folder):
            storage.write_text(f"{folder}/model.safetensors", "half")
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        fail_half_way()
    assert not Path(folder).exists()


def test_a_marker_whose_write_seemed_to_fail_goes_before_the_files_that_it_vouches_for(tmp_path, monkeypatch):
    folder, *_ = save_step(tmp_path)
    deleted = []
    monkeypatch.setattr(LocalStorage, "delete_file", lambda _, path: deleted.append(storage.base_name(path)))
    monkeypatch.setattr(LocalStorage, "delete_folder", lambda _, path: deleted.append(storage.base_name(path)))
    delete_checkpoint(folder)
    assert deleted == ["COMMITTED", "step_00000007"]


def test_on_cloud_storage_a_failed_write_leaves_nothing(bucket, tmp_path, monkeypatch):
    publish, model_dir = CloudStorage.publish, f"{bucket}/{tmp_path.name}"

    def fail_at_last(self, local_file, path):
        publish(self, local_file, path)
        if path.endswith("COMMITTED"):
            raise ConnectionError("the answer got lost")

    monkeypatch.setattr(CloudStorage, "publish", fail_at_last)
    with pytest.raises(OSError, match="the answer got lost"):
        save_step(model_dir)
    assert storage.of(bucket).list_files(model_dir) == []


def test_what_an_outage_leaves_is_deleted_at_the_next_start(cloud, monkeypatch):
    """Nothing can be deleted in it either, and that does not take long."""
    monkeypatch.setattr(checkpoint_folder_module, "DELETION_SECONDS", 0.1)

    def fail_half_way(folder):
        with deleted_on_failure(folder):
            storage.write_text(f"{folder}/model.safetensors", "half")
            raise OSError("the first error")

    with cloud.failing("DELETE"), pytest.raises(OSError, match="the first error"):
        fail_half_way("gs://bucket/run/checkpoints/step_00000001")
    assert storage.exists("gs://bucket/run/checkpoints/step_00000001")
    delete_unfinished_checkpoints("gs://bucket/run")
    assert not storage.exists("gs://bucket/run/checkpoints/step_00000001")


def test_a_checkpoint_whose_deletion_is_cut_off_does_not_count(tmp_path, monkeypatch):
    """The process may be killed between two files, and what is left would be a damaged checkpoint for ever."""
    folders = [save_step(tmp_path, step)[0] for step in (1, 2)]

    def cut_off(self, folder):
        (Path(folder) / "model.safetensors").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalStorage, "delete_folder", cut_off)
    with pytest.raises(KeyboardInterrupt):
        delete_old_checkpoints(str(tmp_path), keep=1)
    assert committed_checkpoints(str(tmp_path)) == folders[1:]


def test_only_uncommitted_checkpoints_are_deleted_as_unfinished(tmp_path):
    folders = [save_step(tmp_path, step)[0] for step in (1, 2, 3)]
    (Path(folders[2]) / "COMMITTED").unlink()
    delete_unfinished_checkpoints(str(tmp_path))
    assert committed_checkpoints(str(tmp_path)) == folders[:2]
    assert not Path(folders[2]).exists()


def test_the_state_is_written_after_the_files_that_it_vouches_for_and_the_marker_last(tmp_path, monkeypatch):
    """Killed anywhere before the end, a process leaves a checkpoint that does not count."""
    order, publish = [], LocalStorage.publish

    def recorded(self, local_file, path):
        order.append(Path(path).name)
        publish(self, local_file, path)

    monkeypatch.setattr(LocalStorage, "publish", recorded)
    save_step(tmp_path)
    assert order[-2:] == ["state.json", "COMMITTED"]
    assert len(order) == len(set(order)) == 6
