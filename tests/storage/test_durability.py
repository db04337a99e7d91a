"""A file on a disk is there whole, whoever reads it at that moment and whenever the power fails."""

import os
from pathlib import Path

import pytest

from algpt2 import storage


@pytest.fixture
def events(monkeypatch):
    """What is asked of the operating system, in order: ('fsync', file or folder), ('replace', source, target)."""
    found, fsync, replace = [], os.fsync, os.replace

    def recorded_fsync(descriptor):
        found.append(("fsync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def recorded_replace(source, target):
        found.append(("replace", str(source), str(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    return found


def test_a_file_is_on_the_disk_before_it_has_its_name_and_the_name_before_the_write_returns(tmp_path, events):
    """A power cut would otherwise leave an empty file under its name, or a marker without what it vouches for."""
    path = str(tmp_path / "a")
    storage.write_text(path, "x")
    (_, temporary), renamed, (_, folder) = events
    assert [kind for kind, *_ in events] == ["fsync", "replace", "fsync"]
    assert renamed == ("replace", temporary, path)
    assert folder == str(tmp_path)


def test_who_reads_a_file_while_it_is_replaced_reads_the_whole_old_one(tmp_path):
    """Without a buffer, so that what is read after the replacement comes from the disk."""
    path = tmp_path / "a"
    path.write_bytes(b"old one")
    with path.open("rb", buffering=0) as reader:
        start = reader.read(3)
        storage.write_text(str(path), "new")
        assert start + reader.read() == b"old one"
    assert path.read_text() == "new"


def test_the_file_that_appears_is_the_very_one_that_was_written(tmp_path):
    """A copy would appear before all of it is there."""
    path = tmp_path / "a"
    with storage.writing(str(path)) as local_file:
        Path(local_file).write_text("x")
        written = os.stat(local_file).st_ino
        assert not path.exists()
    assert path.stat().st_ino == written
    assert os.listdir(tmp_path) == ["a"]


def test_hashes_are_those_of_the_whole_file_however_large(tmp_path):
    """Files are read in pieces of a megabyte; a shard or a checkpoint has thousands of them."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(bytes(3 << 20))
    second.write_bytes(bytes((3 << 20) - 1) + b"x")
    for digest in (storage.file_sha256, storage.of(str(first)).crc32c):
        assert digest(str(first)) != digest(str(second))
