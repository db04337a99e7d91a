"""Storage: whole files or none, and the same behaviour on disk and on a local Cloud Storage server."""

import errno
import gc
import os
import stat
from pathlib import Path

import pytest

from algpt2 import storage
from algpt2.errors import UserError

CRC32C_OF_123456789 = "e3069283"  # the check value of the CRC-32/ISCSI definition


@pytest.fixture(params=["disk", "cloud"])
def root(request, tmp_path):
    """An empty folder on each kind of storage."""
    return str(tmp_path) if request.param == "disk" else f"{request.getfixturevalue('bucket')}/{tmp_path.name}"


def test_what_is_written_is_read(root):
    path = storage.join(root, "a", "b.txt")
    storage.write_text(path, "\u00e9\r\n")
    assert storage.read_text(path) == "\u00e9\r\n"
    assert storage.of(path).is_file(path)
    assert storage.of(path).size_bytes(path) == 4
    storage.write_bytes(path, b"123456789")
    assert storage.of(path).crc32c(path) == CRC32C_OF_123456789
    with storage.local_copy(path) as local_file:
        assert Path(local_file).read_bytes() == b"123456789"


def test_local_copies_are_made_once_and_deleted_with_their_owner(root):
    path = storage.join(root, "a")
    storage.write_text(path, "one")
    copies = storage.LocalCopies()
    file = copies.file(path)
    assert Path(file).read_text() == "one"
    assert (file == path) == (not storage.is_remote(path)), "what is on a disk is not copied"
    if storage.is_remote(path):
        storage.write_text(path, "two")
        storage.write_text(path + "b", "other")
        again, other = copies.file(path), copies.file(path + "b")
        assert (Path(again).read_text(), Path(other).read_text()) == ("one", "other")
        del copies
        gc.collect()  # the client library leaves a cycle behind that holds its callers
        assert not Path(file).parent.exists()


def test_a_folder_exists_when_it_holds_a_file(root):
    folder = storage.join(root, "folder")
    assert not storage.exists(folder)
    storage.require_empty(folder)
    storage.write_text(storage.join(folder, "x"), "x")
    assert storage.exists(folder)
    assert not storage.of(folder).is_file(folder)
    assert not storage.exists(folder[:-1])
    with pytest.raises(UserError, match="new or empty"):
        storage.require_empty(folder)


def test_folders_and_patterns_expand_to_sorted_files(root):
    names = ["b.txt", "a.txt", "c.raw", "sub/d.txt", "sub/deep/e.txt"]
    for name in names:
        storage.write_text(storage.join(root, name), name)
    expanded = {
        "": ["a.txt", "b.txt", "c.raw", "sub/d.txt", "sub/deep/e.txt"],
        "/a.txt": ["a.txt"],
        "/*.txt": ["a.txt", "b.txt"],
        "/[bc].*": ["b.txt", "c.raw"],
        "/s*": ["sub/d.txt", "sub/deep/e.txt"],
        "/**/*.txt": ["a.txt", "b.txt", "sub/d.txt", "sub/deep/e.txt"],
    }
    for pattern, expected in expanded.items():
        assert storage.expand(root + pattern) == [storage.join(root, name) for name in expected], pattern
    for pattern in ("/none", "/*.csv", "/a.tx"):
        with pytest.raises(UserError, match="nothing is at"):
            storage.expand(root + pattern)


def test_a_name_with_marks_that_exists_is_taken_as_it_is_written(root):
    names = ["a[1].txt", "a1.txt", "f[1]/b.txt", "f[1]/c?.txt", "f[1]/cd.txt", "f1/b.txt", "f1/x[1].txt"]
    for name in names:
        storage.write_text(storage.join(root, name), name)
    expanded = {
        "/a[1].txt": ["a[1].txt"],
        "/a[12].txt": ["a1.txt"],
        "/f[1]": ["f[1]/b.txt", "f[1]/c?.txt", "f[1]/cd.txt"],
        "/f[1]/*.txt": ["f[1]/b.txt", "f[1]/c?.txt", "f[1]/cd.txt"],
        "/f[1]/c?.txt": ["f[1]/c?.txt"],
        "/f[1]/?.txt": ["f[1]/b.txt"],
        "/f[12]/b.txt": ["f1/b.txt"],
        "/f*/b.txt": ["f1/b.txt", "f[1]/b.txt"],
    }
    for path, expected in expanded.items():
        assert storage.expand(root + path) == [storage.join(root, name) for name in expected], path
    assert [storage.is_pattern(root + path) for path in ("/a[1].txt", "/f[1]", "/f[1]/*", "/a1")] == [
        False,
        False,
        True,
        False,
    ]


def test_deleting_a_folder_leaves_its_neighbours(root):
    for name in ("x/1", "x/y/2", "xx/3"):
        storage.write_text(storage.join(root, name), name)
    storage.of(root).delete_folder(storage.join(root, "x"))
    assert storage.expand(root) == [storage.join(root, "xx/3")]


def contents(folder):
    return {path.removeprefix(folder): storage.read_text(path) for path in storage.of(folder).list_files(folder)}


def test_a_moved_folder_is_whole_at_its_target_and_gone_from_its_source(root):
    for name in ("x/1", "x/y/2", "xx/3"):
        storage.write_text(storage.join(root, name), name)
    storage.of(root).move_folder(storage.join(root, "x"), storage.join(root, "new", "place") + "/")
    assert contents(root) == {"/new/place/1": "x/1", "/new/place/y/2": "x/y/2", "/xx/3": "xx/3"}
    assert not storage.exists(storage.join(root, "x"))


@pytest.mark.parametrize("taken", ["target", "target/2"])
def test_a_folder_is_not_moved_onto_anything(root, taken):
    for name in ("source/1", taken):
        storage.write_text(storage.join(root, name), name)
    with pytest.raises(FileExistsError) as raised:
        storage.of(root).move_folder(storage.join(root, "source"), storage.join(root, "target"))
    assert raised.value.filename == storage.join(root, "target")
    assert contents(root) == {"/source/1": "source/1", f"/{taken}": taken}


def test_a_folder_is_not_moved_onto_an_empty_one(tmp_path):
    """Python's own rename replaces it on Linux."""
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    with pytest.raises(FileExistsError):
        storage.of(str(tmp_path)).move_folder(str(tmp_path / "source"), str(tmp_path / "target"))


@pytest.mark.parametrize("source", ["none", "file", "fil"])
def test_only_a_folder_that_exists_is_moved(root, source):
    storage.write_text(storage.join(root, "file"), "x")
    with pytest.raises(FileNotFoundError) as raised:
        storage.of(root).move_folder(storage.join(root, source), storage.join(root, "target"))
    assert raised.value.filename == storage.join(root, source)
    assert contents(root) == {"/file": "x"}


def test_a_move_that_is_cut_off_while_copying_has_deleted_nothing(bucket, monkeypatch):
    from google.cloud.storage import Blob

    rewrite, copied = Blob.rewrite, []

    def copy_one(self, source, **options):
        if copied:
            raise ValueError("stop")
        copied.append(source.name)
        return rewrite(self, source, **options)

    for name in ("1", "2"):
        storage.write_text(f"{bucket}/cut/source/{name}", name)
    monkeypatch.setattr(Blob, "rewrite", copy_one)
    with pytest.raises(ValueError, match="stop"):
        storage.of(bucket).move_folder(f"{bucket}/cut/source", f"{bucket}/cut/target")
    assert copied == ["cut/source/1"]
    assert contents(f"{bucket}/cut/source") == {"/1": "1", "/2": "2"}


def test_a_large_object_is_copied_in_as_many_calls_as_the_server_asks_for(bucket, monkeypatch):
    from google.cloud.storage import Blob

    answers, tokens = [("t1", 1, 3), ("t2", 2, 3), (None, 3, 3)], []

    def rewrite(self, source, token=None, **_):
        tokens.append(token)
        return answers[len(tokens) - 1]

    storage.write_text(f"{bucket}/large/source/1", "1")
    monkeypatch.setattr(Blob, "rewrite", rewrite)
    storage.of(bucket).move_folder(f"{bucket}/large/source", f"{bucket}/large/target")
    assert tokens == [None, "t1", "t2"]


def fail_midway(path):
    with storage.writing(path) as local_file:
        Path(local_file).write_text("half")
        raise RuntimeError("stop")


def test_an_error_while_writing_leaves_neither_the_file_nor_a_temporary_one(root, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    path = storage.join(root, "out", "a")
    with pytest.raises(RuntimeError, match="stop"):
        fail_midway(path)
    assert not storage.exists(path)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []


def test_an_error_while_writing_keeps_the_older_file(root):
    path = storage.join(root, "a")
    storage.write_text(path, "old")
    with pytest.raises(RuntimeError, match="stop"):
        fail_midway(path)
    assert storage.read_text(path) == "old"


def test_published_files_have_ordinary_permissions(tmp_path):
    storage.write_text(str(tmp_path / "ours"), "x")
    (tmp_path / "theirs").write_text("x")
    modes = {stat.S_IMODE(os.stat(tmp_path / name).st_mode) for name in ("ours", "theirs")}
    assert len(modes) == 1


def test_temporary_files_of_killed_processes_are_nothing_and_can_be_deleted(tmp_path):
    folder = tmp_path / "run[1]"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / ".tmp-1").write_text("not this folder's")
    kept = [".lock", ".tmp-folder", "below", "tmp-1"]
    (folder / ".lock").touch()
    (folder / ".tmp-folder").mkdir()
    (folder / "tmp-1").touch()
    (folder / ".tmp-1").touch()
    storage.delete_temporary_files(str(folder))
    assert sorted(os.listdir(folder)) == kept
    assert os.listdir(folder / "below") == [".tmp-1"]
    assert not storage.exists(str(folder / "below"))


def test_a_missing_file_is_an_error(root):
    with pytest.raises(FileNotFoundError):
        storage.read_bytes(storage.join(root, "none"))


def test_paths_are_taken_apart_alike_on_both_storages():
    assert storage.join("gs://b/a/", "c") == "gs://b/a/c"
    assert [storage.trim(path) for path in ("a//", "/a/", "/", "gs://b/", "gs://")] == [
        "a",
        "/a",
        "/",
        "gs://b",
        "gs://",
    ]
    assert (storage.base_name("gs://b/a/c"), storage.parent("gs://b/a/c")) == ("c", "gs://b/a")
    assert (storage.base_name("a/c/"), storage.parent("a/c"), storage.parent("c")) == ("c", "a", ".")


@pytest.mark.parametrize("name", ["file/out", "file/a/b"])
def test_an_output_folder_that_cannot_be_made_is_refused_at_once(tmp_path, name):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=f"{tmp_path}/file is not a folder"):
        storage.require_empty(str(tmp_path / name))


def test_an_output_folder_that_is_not_writable_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != str(tmp_path))
    with pytest.raises(UserError, match=f"must be writable, and {tmp_path} is not"):
        storage.require_empty(str(tmp_path / "a" / "b"))


def test_an_output_folder_without_a_name_is_refused():
    """Its files would otherwise land in the root of the file system."""
    with pytest.raises(UserError, match="must have a name"):
        storage.require_empty("")


def test_a_missing_file_is_named(root):
    with pytest.raises(FileNotFoundError) as raised:
        storage.read_bytes(storage.join(root, "none"))
    assert raised.value.filename == storage.join(root, "none")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), OSError("half written")])
def test_a_full_disk_is_reported_with_the_name_of_the_file_that_was_written(tmp_path, error):
    def fill(local_file):
        raise error

    with pytest.raises(OSError, match="No space left on device|half written") as raised:  # noqa: SIM117
        with storage.writing(str(tmp_path / "a")) as local_file:
            fill(local_file)
    assert raised.value.filename == str(tmp_path / "a")
    assert "None" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("reason", "number", "text"),
    [
        ("Error while serializing: I/O error: No space left on device (os error 28)", errno.ENOSPC, None),
        ("path; No such device or address", errno.ENXIO, None),  # it begins with another number's text
        ("half written", errno.EIO, "half written"),
    ],
)
def test_a_reason_in_words_becomes_the_systems_error_that_it_names(reason, number, text):
    error = storage.failed_write("a", reason)
    assert (error.errno, error.strerror, error.filename) == (number, text or os.strerror(number), "a")


def test_a_file_that_cannot_be_written_is_named_and_not_its_temporary_one(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path / ".tmp-x"))

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(PermissionError) as raised:
        storage.write_text(str(tmp_path / "a"), "")
    assert raised.value.filename == str(tmp_path / "a")
