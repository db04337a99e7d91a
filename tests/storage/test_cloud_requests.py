"""What becomes of a request to Cloud Storage that fails: tried again, with a line that says so, or one sentence."""

import http.client
import random
import threading

import pytest
import requests
import urllib3
from absl import logging
from google.api_core import exceptions
from google.auth import exceptions as auth_exceptions
from google.cloud.storage import exceptions as storage_exceptions

from algpt2 import storage
from algpt2.errors import StorageUnavailable, UserError
from algpt2.storage import cloud_requests, patience

PATH = "gs://bucket/folder/a"


@pytest.fixture
def impatient(monkeypatch):
    """Ends the tries at once, and lets every failure be told."""
    monkeypatch.setattr(patience, "DEFAULT_SECONDS", 0.01)
    monkeypatch.setattr(cloud_requests, "NOTICE_SECONDS", 0)


@pytest.fixture
def told(monkeypatch):
    """The lines of the log, as they were written, without a limit to their number.

    Only this test's thread counts: a thread of an earlier test may still be asking a server that has gone.
    """
    lines = []
    own_thread = threading.get_ident()

    def log(level, message, *arguments, **_):
        if threading.get_ident() == own_thread:
            lines.append(message % arguments)

    monkeypatch.setattr(cloud_requests, "NOTICE_SECONDS", 0)
    monkeypatch.setattr(logging, "log", log)
    return lines


def write(path, tmp_path):
    (tmp_path / "local").write_text("text")
    storage.of(path).publish(str(tmp_path / "local"), path)


# (what is done, the request of it that fails, the method and the part of the path that tell this request)
OPERATIONS = {
    "exists": lambda path, _: storage.exists(path),
    "is_file": lambda path, _: storage.of(path).is_file(path),
    "size_bytes": lambda path, _: storage.of(path).size_bytes(path),
    "crc32c": lambda path, _: storage.of(path).crc32c(path),
    "list_files": lambda path, _: storage.of(path).list_files(path),
    "expand": lambda path, _: storage.expand(path[:-1] + "*"),
    "read": lambda path, _: storage.read_bytes(path),
    "publish": write,
    "delete_file": lambda path, _: storage.of(path).delete_file(path),
    "delete_folder": lambda path, _: storage.of(path).delete_folder(storage.parent(path)),
    "move_folder": lambda path, _: storage.of(path).move_folder(storage.parent(path), "gs://bucket/other"),
    "require_empty": lambda path, _: storage.require_empty(path),
    "generation": lambda path, _: storage.of(path).generation(path),
    "write_if_generation": lambda path, _: storage.of(path).write_if_generation(path, "", 0, 0.5),
    "delete_if_generation": lambda path, _: storage.of(path).delete_if_generation(path, 1, 0.5),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_whatever_is_asked_for_in_an_outage_is_one_sentence_that_names_the_path(cloud, impatient, tmp_path, name):
    storage.write_text(PATH, "text")
    with cloud.failing(), pytest.raises(StorageUnavailable, match="must answer, and no request about gs://bucket/"):
        OPERATIONS[name](PATH, tmp_path)


@pytest.mark.parametrize("name", OPERATIONS)
def test_whatever_is_forbidden_is_one_sentence_that_names_the_path_and_the_role(cloud, tmp_path, name):
    storage.write_text(PATH, "text")
    with (
        cloud.failing(status=403),
        pytest.raises(UserError, match=r"access to gs://bucket/.*403.*injected.*objectAdmin"),
    ):
        OPERATIONS[name](PATH, tmp_path)


@pytest.mark.parametrize(("method", "name"), [("GET", "read"), ("POST", "move_folder"), ("DELETE", "move_folder")])
def test_a_later_request_of_an_operation_that_fails_is_one_sentence_too(cloud, impatient, tmp_path, method, name):
    storage.write_text(PATH, "text")
    part = "/download/" if method == "GET" else ""
    with cloud.failing(method, part=part, status=503), pytest.raises(StorageUnavailable, match=r"503.*injected"):
        OPERATIONS[name](PATH, tmp_path)


def test_a_stream_that_fails_while_it_is_read_is_one_sentence(cloud, impatient):
    storage.write_text(PATH, "text")
    with storage.of(PATH).open_read(PATH) as stream, cloud.failing(), pytest.raises(StorageUnavailable, match=PATH):
        stream.read(1)


def test_an_object_that_goes_while_it_is_read_is_a_missing_file_of_that_name(cloud):
    storage.write_text(PATH, "text")
    with storage.of(PATH).open_read(PATH) as stream:
        storage.of(PATH).delete_file(PATH)
        with pytest.raises(FileNotFoundError) as raised:
            stream.read()
    assert raised.value.filename == PATH


def test_a_request_that_is_tried_again_says_so_before_it_succeeds(cloud, told, monkeypatch):
    storage.write_text(PATH, "text")
    with cloud.failing("GET", status=503, times=1):
        assert storage.read_text(PATH) == "text"
    (line,) = told
    assert "gs://bucket/folder/a (503" in line
    assert "tried again for 120 s before it fails" in line


@pytest.mark.parametrize("fault", [{}, {"status": 503}], ids=["reset", "503"])
@pytest.mark.parametrize(("method", "size_bytes"), [("POST", 1 << 16), ("POST", 9 << 20), ("PUT", 9 << 20)])
def test_an_upload_that_is_cut_off_in_the_middle_is_made_again_and_arrives_whole(
    cloud, told, method, size_bytes, fault
):
    """Above 8 MiB a POST begins an upload, and a PUT brings the content."""
    data = random.Random(0).randbytes(size_bytes)
    with cloud.failing(method, times=2, **fault) as entry:
        storage.write_bytes(PATH, data)
    assert entry.times == 0
    assert len(told) == 2
    assert storage.read_bytes(PATH) == data


def test_the_lines_about_tries_are_at_most_one_a_minute(cloud, told, monkeypatch):
    monkeypatch.setattr(cloud_requests, "NOTICE_SECONDS", 60)
    storage.write_text(PATH, "text")
    with cloud.failing("GET", status=503, times=3):
        storage.read_text(PATH)
    assert len(told) <= 1


def test_a_deletion_whose_answer_got_lost_has_succeeded(cloud):
    """The client tries it again, and the server has nothing left to delete."""
    storage.of(PATH).delete_file(PATH)


@pytest.mark.parametrize(
    ("error", "ours", "said"),
    [
        (exceptions.RetryError("Timeout", exceptions.BadGateway("bad gateway")), StorageUnavailable, "bad gateway"),
        (exceptions.InternalServerError("internal"), StorageUnavailable, "internal"),
        (requests.ConnectionError("refused"), StorageUnavailable, "refused"),
        (requests.exceptions.ChunkedEncodingError("broken"), StorageUnavailable, "broken"),
        (urllib3.exceptions.ProtocolError("aborted"), StorageUnavailable, "aborted"),
        (http.client.IncompleteRead(b""), StorageUnavailable, "IncompleteRead"),
        (ConnectionResetError("reset by peer"), StorageUnavailable, "reset by peer"),
        (TimeoutError("timed out"), StorageUnavailable, "timed out"),
        (auth_exceptions.TransportError("no metadata server"), StorageUnavailable, "no metadata server"),
        (storage_exceptions.DataCorruption(None, "crc32c differs"), StorageUnavailable, "checksum .*crc32c differs"),
        (auth_exceptions.RefreshError("revoked"), UserError, "credentials .*revoked.*gcloud auth"),
        (exceptions.Unauthorized("anonymous"), UserError, "credentials .*anonymous.*gcloud auth"),
        (exceptions.BadRequest("bad name"), UserError, "bad name.*name another"),
    ],
)
def test_every_kind_of_error_of_the_client_becomes_ours_and_keeps_its_text(error, ours, said):
    with pytest.raises(ours, match=said) as raised, cloud_requests.requesting(PATH):
        raise error
    assert PATH in str(raised.value)
    assert raised.value.__cause__ is error


def test_an_error_on_this_machine_stays_what_it_is(tmp_path, bucket):
    with pytest.raises(FileNotFoundError) as raised:
        storage.of(PATH).publish(str(tmp_path / "none"), PATH)
    assert raised.value.filename == str(tmp_path / "none")


@pytest.mark.parametrize("path", ["gs://", "gs:///x", "gs:///", "gs://buck*/x", "gs://[a]/x"])
def test_a_path_without_a_bucket_is_refused(bucket, path):
    for do in (storage.exists, storage.expand, storage.read_bytes, storage.require_empty):
        with pytest.raises(UserError, match=r"must name its bucket, as gs://BUCKET/NAME, and 'gs://.*' does not"):
            do(path)
    with pytest.raises(UserError, match="must name its bucket"):
        storage.exists(storage.join(path, "name"))


@pytest.mark.parametrize("path", ["gs://bucket", "gs://bucket/", "gs://bucket/folder/"])
def test_a_bucket_or_a_folder_is_no_name_for_a_file(bucket, path):
    with pytest.raises(UserError, match=f"must have a name, as gs://BUCKET/NAME, and '{path}' has none"):
        storage.write_text(path, "")


def test_a_file_is_not_even_prepared_for_a_path_that_no_object_can_have(bucket):
    writing = storage.writing("gs://bucket")
    with pytest.raises(UserError, match="must have a name"):
        writing.__enter__()


def write_text(path):
    storage.write_text(path, "text")


@pytest.mark.parametrize("do", [storage.exists, storage.expand, storage.read_bytes, storage.require_empty, write_text])
def test_a_missing_bucket_is_said_to_be_missing(bucket, do):
    with pytest.raises(UserError, match=r"gs://absent/x.* there is no gs://absent: .*buckets create gs://absent"):
        do("gs://absent/x")
