"""On a disk, only a regular file is read or replaced: not a pipe, a socket, a device, a folder or a link to nothing."""

import os
import socket
import stat
import subprocess
import sys

import pytest

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.storage import json_files
from algpt2.storage.folder_lock import locked


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def make_folder(path):
    path.mkdir()
    (path / "file").write_text("mine")


MAKE = {"a named pipe": os.mkfifo, "a socket": make_socket, "a folder": make_folder}
WAITS_SECONDS = 30  # Who opens a pipe that nobody else has opened waits for ever.
LINK_TO_NOTHING = "a symbolic link that leads nowhere"


@pytest.fixture(params=[*MAKE, *(f"a link to {kind}" for kind in MAKE)])
def no_file(request, tmp_path, monkeypatch):
    """A path at which something else than a file is, and what that is."""
    monkeypatch.chdir(tmp_path)  # the name of a socket has a limit
    kind = request.param.removeprefix("a link to ")
    path = tmp_path / "there"
    if kind == request.param:
        MAKE[kind](path.relative_to(tmp_path))
    else:
        MAKE[kind]((tmp_path / "target").relative_to(tmp_path))
        path.symlink_to("target")
    return str(path), kind


def state(folder):
    """Returns the type and the inode of everything in a folder."""
    return {name: (stat.S_IFMT(one.st_mode), one.st_ino) for name, one in lstats(folder).items()}


def lstats(folder):
    return {name: os.lstat(os.path.join(folder, name)) for name in os.listdir(folder)}


def test_what_is_no_file_counts_as_there_and_stays(no_file, tmp_path):
    path, kind = no_file
    before = state(tmp_path)
    assert storage.exists(path)
    assert storage.of(path).kind(path) == kind
    with pytest.raises(UserError, match=f"may only be new or replace a file, and '{path}' is {kind}"):
        storage.write_text(path, "")
    (tmp_path / "local").write_text("finished")
    with pytest.raises(UserError, match=f"is {kind}"):
        storage.of(path).publish(str(tmp_path / "local"), path)
    (tmp_path / "local").unlink()
    with pytest.raises(UserError, match="must be new or empty"):
        storage.require_empty(path)
    assert state(tmp_path) == before


@pytest.mark.timeout(WAITS_SECONDS, method="signal")
def test_what_is_no_file_is_not_read_and_nothing_waits_for_it(no_file):
    path, kind = no_file
    for read in (storage.read_bytes, storage.of(path).crc32c, storage.file_sha256):
        with pytest.raises(UserError, match=f"must be a file, and {path} is {kind}"):
            read(path)
    if kind != "a folder":
        for name in (path, path[:-1] + "*"):
            with pytest.raises(UserError, match=f"existing file, folder or pattern, and {kind} is at '{path}'"):
                storage.expand(name)
        with pytest.raises(UserError, match=f"must be new or empty, and {path} is {kind}"):
            storage.require_empty(path)


def test_an_empty_folder_is_no_place_for_a_file(tmp_path):
    """A rename would not replace it, and would only say so when all the work is done."""
    (tmp_path / "folder").mkdir()
    for path in (f"{tmp_path}/folder", f"{tmp_path}/folder/", f"{tmp_path}/new/", ""):
        writing = storage.writing(path)
        with pytest.raises(UserError, match="is a folder"):
            writing.__enter__()
    assert os.listdir(tmp_path) == ["folder"]


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "target").write_text("old")
    (tmp_path / "link").symlink_to("below/target")
    storage.write_text(str(tmp_path / "link"), "new")
    assert os.readlink(tmp_path / "link") == "below/target"
    assert (tmp_path / "below" / "target").read_text() == "new"
    assert os.listdir(tmp_path / "below") == ["target"]


def test_a_link_to_nothing_counts_as_there_and_is_followed(tmp_path):
    path = tmp_path / "link"
    path.symlink_to("below/target")
    assert storage.exists(str(path))
    assert storage.of(str(path)).kind(str(path)) == LINK_TO_NOTHING
    with pytest.raises(UserError, match=f"must be new or empty, and .* is {LINK_TO_NOTHING}"):
        storage.require_empty(str(path))
    with pytest.raises(FileNotFoundError) as raised:
        storage.read_bytes(str(path))
    assert raised.value.filename == str(path)
    storage.write_text(str(path), "new")
    assert path.is_symlink()
    assert (tmp_path / "below" / "target").read_text() == "new"


def test_a_link_to_itself_is_not_replaced(tmp_path):
    path = tmp_path / "link"
    path.symlink_to("link")
    with pytest.raises(UserError, match=f"is {LINK_TO_NOTHING}"):
        storage.write_text(str(path), "new")
    assert os.readlink(path) == "link"


def test_a_file_is_published_beside_the_target_of_its_folder(tmp_path):
    """A folder may be a link to another file system, onto which nothing can be renamed from here."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    storage.write_text(str(tmp_path / "link" / "a"), "x")
    assert storage.of("").work_folder(str(tmp_path / "link" / "a")) == str(tmp_path / "real")
    assert (tmp_path / "real" / "a").read_text() == "x"


def test_a_pipe_that_a_shell_has_opened_is_read():
    """bash makes one for `<(zcat file)`."""
    program = "import sys; from algpt2 import storage; print(storage.read_text(sys.argv[1]))"
    command = f"{sys.executable} -c '{program}' <(echo content)"
    read = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert read.stdout == "content\n\n", read.stderr


@pytest.mark.timeout(WAITS_SECONDS, method="signal")
def test_a_pipe_in_the_place_of_a_lock_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(UserError, match=r"--model_dir must be .*/\.lock can be written"), locked(str(tmp_path)):
        pytest.fail("it is locked")


def test_a_sentence_about_json_that_is_no_file_names_it_once(tmp_path):
    with pytest.raises(UserError, match="must be a file") as raised:
        json_files.read_object(str(tmp_path), "a test")
    assert str(raised.value).count(str(tmp_path)) == 1
