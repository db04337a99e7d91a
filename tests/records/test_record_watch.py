"""Shards that are exchanged after they were checked, though nothing in their records shows it."""

import os
import shutil
from pathlib import Path

import pytest

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.records import record_watch
from algpt2.records.record_set import open_record_set
from algpt2.records.record_watch import RecordWatch


@pytest.fixture
def folder(records_folder, tmp_path):
    """Records of one's own, to spoil."""
    return Path(shutil.copytree(records_folder, tmp_path / "records"))


@pytest.fixture
def files(folder):
    return [Path(file) for file in open_record_set([str(folder)], "train").files]


@pytest.fixture
def watch(folder):
    return RecordWatch(open_record_set([str(folder)], "train"))


def other_content(file):
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    return bytes(data)


def replace(file, data):
    copy = file.with_name("copy")
    copy.write_bytes(data)
    copy.replace(file)


def replace_and_keep_the_time(file, data):
    status = file.stat()
    replace(file, data)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def overwrite_and_keep_the_time(file, data):
    status = file.stat()
    file.write_bytes(data)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


WAYS = [replace, replace_and_keep_the_time, Path.write_bytes, overwrite_and_keep_the_time]


@pytest.mark.parametrize("write", WAYS)
def test_a_shard_with_other_bytes_of_the_same_size_is_refused_by_its_name(watch, files, write):
    watch.require_unchanged()
    write(files[1], other_content(files[1]))
    with pytest.raises(UserError, match=f"{files[1]} must have CRC32C"):
        watch.require_unchanged()


@pytest.mark.parametrize("write", WAYS)
def test_an_identical_copy_will_do_and_is_read_once(watch, files, write, monkeypatch):
    checked = []
    require_checksum = record_watch.require_checksum
    monkeypatch.setattr(
        record_watch, "require_checksum", lambda *which: (checked.append(which[0]), require_checksum(*which))
    )
    write(files[1], files[1].read_bytes())
    for _ in range(3):
        watch.require_unchanged()
    assert checked == [str(files[1])]


def test_a_shard_that_is_gone_is_refused_by_its_name(watch, files):
    files[2].unlink()
    with pytest.raises(UserError, match=f"{files[2]} is missing"):
        watch.require_unchanged()


def test_shards_are_compared_once_an_epoch(watch, files):
    watch.begin_epoch(4)
    files[0].write_bytes(other_content(files[0]))
    watch.begin_epoch(4)
    with pytest.raises(UserError, match="must have CRC32C"):
        watch.begin_epoch(5)


def test_what_changes_while_the_check_runs_is_noticed_too(folder, files, monkeypatch):
    """Catches: versions that are taken after the content was checked, when they may be those of another content."""
    from algpt2.records import record_set

    require_checksum = record_set.require_checksum

    def check_and_change(file, shard):
        require_checksum(file, shard)
        Path(file).write_bytes(other_content(Path(file)))

    monkeypatch.setattr(record_set, "require_checksum", check_and_change)
    watch = RecordWatch(open_record_set([str(folder)], "train"))
    with pytest.raises(UserError, match="must have CRC32C"):
        watch.require_unchanged()


def test_records_that_were_only_counted_are_not_compared(folder, files):
    watch = RecordWatch(open_record_set([str(folder)], "train", check_content=False))
    files[0].unlink()
    watch.require_unchanged()


@pytest.fixture
def watch_on_cloud(cloud, records_folder):
    for file in Path(records_folder).iterdir():
        storage.write_bytes(f"gs://bucket/records/{file.name}", file.read_bytes())
    record_set = open_record_set(["gs://bucket/records"], "train")
    return RecordWatch(record_set), record_set.files[0]


def test_an_object_that_was_written_anew_is_compared_by_its_checksum(watch_on_cloud):
    watch, file = watch_on_cloud
    data = storage.read_bytes(file)
    storage.write_bytes(file, data)
    watch.require_unchanged()
    storage.write_bytes(file, data[:-1] + b"\0")
    with pytest.raises(UserError, match=f"{file} must have CRC32C"):
        watch.require_unchanged()


def test_an_outage_keeps_the_comparison_from_nothing_but_itself(watch_on_cloud, cloud, monkeypatch, caplog):
    watch, file = watch_on_cloud
    monkeypatch.setattr(record_watch, "PATIENCE_SECONDS", 0.1)
    with cloud.failing():
        watch.require_unchanged()
    assert "shards could not be compared" in caplog.text
    storage.write_bytes(file, b"another")
    with pytest.raises(UserError, match=f"{file} must have"):
        watch.require_unchanged()
