"""Where WikiText is found: a file, a folder, or the web, here a server on this machine."""

import contextlib
import hashlib
import http.server
import io
import threading
import zipfile

import pytest

from algpt2.errors import StorageUnavailable, UserError
from algpt2.evaluation.wikitext_files import WIKITEXT_TEST, OfficialFile, download, read_wikitext

TEXT = " = Title = \n \n Text . \n"
MEMBER = "wikitext-2-raw/wiki.test.raw"
NOWHERE = "http://127.0.0.1:1/x.zip"


def archive(text=TEXT, member=MEMBER):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as files:
        files.writestr(member, text)
    return content.getvalue()


@contextlib.contextmanager
def serving(bodies):
    """Yields the address of a server that has some paths, and the paths that it was asked for."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802, the name is the standard library's
            asked.append(self.path)
            body = bodies.get(self.path)
            self.send_response(403 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def official(*urls, text=TEXT):
    return OfficialFile(urls, MEMBER, hashlib.sha256(text.encode()).hexdigest())


def test_the_file_of_the_first_place_that_has_it_is_fetched_whole(tmp_path):
    with serving({"/good.zip": archive()}) as (address, asked):
        places = official(NOWHERE, f"{address}/gone.zip", f"{address}/good.zip", f"{address}/never.zip")
        path = download(str(tmp_path / "new"), places)
    assert (asked, path) == (["/gone.zip", "/good.zip"], str(tmp_path / "new" / "wiki.test.raw"))
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["wiki.test.raw"]
    assert read_wikitext(path) == (path, TEXT, hashlib.sha256(TEXT.encode()).hexdigest())


def test_a_file_that_is_there_already_is_not_fetched_again(tmp_path):
    (tmp_path / "wiki.test.raw").write_text(TEXT)
    assert download(str(tmp_path), official(NOWHERE)) == str(tmp_path / "wiki.test.raw")


def test_a_file_with_other_content_is_not_replaced(tmp_path):
    (tmp_path / "wiki.test.raw").write_text("mine")
    refusal = pytest.raises(UserError, match=r"must not replace another file, and \S+wiki.test.raw is there")
    with serving({"/good.zip": archive()}) as (address, asked), refusal:
        download(str(tmp_path), official(f"{address}/good.zip"))
    assert (asked, (tmp_path / "wiki.test.raw").read_text()) == ([], "mine")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (archive("another text"), f"its {MEMBER} has SHA-256 [0-9a-f]{{64}}"),
        (archive(member="other.txt"), "There is no item named"),
        (archive()[:-30], "not a zip file"),
        (archive(TEXT * 99)[:60] + bytes(20) + archive(TEXT * 99)[80:], ""),
        (b"<html>moved</html>", "not a zip file"),
    ],
    ids=["another-text", "another-file", "cut-off", "damaged", "a-page"],
)
def test_what_is_not_the_official_file_is_refused_and_leaves_nothing(tmp_path, body, reason):
    sentence = f"must be at one of its places .*{reason}.* --data"
    refusal = pytest.raises((UserError, StorageUnavailable), match=sentence)
    with serving({"/x.zip": body}) as (address, _), refusal:
        download(str(tmp_path / "new"), official(f"{address}/x.zip"))
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]


def test_a_web_that_cannot_be_reached_is_a_service_that_is_away(tmp_path):
    refusal = pytest.raises(StorageUnavailable, match=r"127.0.0.1:1/x.zip: .*refused.*gone.zip: HTTP Error 403")
    with serving({}) as (address, _), refusal:
        download(str(tmp_path), official(NOWHERE, f"{address}/gone.zip"))


def test_another_text_is_the_users_to_mend_and_not_a_service_that_is_away(tmp_path):
    with serving({"/x.zip": archive("another text")}) as (address, _), pytest.raises(UserError):
        download(str(tmp_path), official(NOWHERE, f"{address}/x.zip"))


def test_the_official_file_is_the_one_whose_counts_are_published():
    assert WIKITEXT_TEST.sha256 == "173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08"
    assert all(url.startswith("https://") and url.endswith("wikitext-2-raw-v1.zip") for url in WIKITEXT_TEST.urls)


@pytest.mark.parametrize("names", [["wiki.test.raw", "wiki.valid.raw", "README.md"], ["deep/test.txt"]])
def test_a_folder_stands_for_the_one_test_file_in_it(tmp_path, names):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(TEXT)
    assert read_wikitext(str(tmp_path)).path == str(tmp_path / names[0])


@pytest.mark.parametrize(
    ("names", "found"), [(["2/wiki.test.raw", "103/wiki.test.raw"], "2 among 2"), (["wiki.valid.raw"], "0 among 1")]
)
def test_a_folder_with_several_test_files_or_none_is_refused(tmp_path, names, found):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(TEXT)
    with pytest.raises(UserError, match=f"must hold one test file, .* holds {found} files .*{names[0]}.*name the file"):
        read_wikitext(str(tmp_path))


def test_a_folder_on_cloud_storage_is_as_good(bucket, tmp_path):
    with serving({"/good.zip": archive()}) as (address, _):
        path = download(f"{bucket}/wikitext", official(f"{address}/good.zip"))
    assert read_wikitext(f"{bucket}/wikitext") == (path, TEXT, hashlib.sha256(TEXT.encode()).hexdigest())
