"""Where WikiText comes from: a file, a folder that holds it, or the official archive on the web."""

import dataclasses
import hashlib
import http.client
import io
import re
import urllib.request
import zipfile
import zlib
from typing import NamedTuple

from absl import logging

from algpt2 import storage
from algpt2.errors import StorageUnavailable, UserError
from algpt2.text.documents import read_text_file

TEST_FILE = re.compile(r".*test.*\.(raw|txt)")
ARCHIVE_TIMEOUT_SECONDS = 30
MOST_ARCHIVE_BYTES = 1 << 26
FETCH_ERRORS = (OSError, http.client.HTTPException, zipfile.BadZipFile, zlib.error, KeyError)


class TextFile(NamedTuple):
    """A text and the file that it was read from, whose bytes have this SHA-256 in hexadecimal."""

    path: str
    text: str
    sha256: str


@dataclasses.dataclass(frozen=True)
class OfficialFile:
    """A file in a zip archive on the web.

    Attributes:
      urls: of the archive, tried in this order.
      member: the file's path in the archive.
      sha256: of the file, in hexadecimal.
    """

    urls: tuple[str, ...]
    member: str
    sha256: str


# The authors' own place refuses requests since 2023, so their mirror and the one that llama.cpp uses stand behind it.
# All three hold the archive with SHA-256 ef7edb566e3e2b2d31b29c1fdb0c89a4cc683597484c3dc2517919c615435a11.
WIKITEXT_TEST = OfficialFile(
    urls=(
        "https://s3.amazonaws.com/research.metamind.io/wikitext/wikitext-2-raw-v1.zip",
        "https://wikitext.smerity.com/wikitext-2-raw-v1.zip",
        "https://huggingface.co/datasets/ggml-org/ci/resolve/main/wikitext-2-raw-v1.zip",
    ),
    member="wikitext-2-raw/wiki.test.raw",
    sha256="173c87a53759e0201f33e0ccf978e510c2042d7f2cb78229d9a50d79b9e7dd08",
)


def read_wikitext(path: str) -> TextFile:
    """Returns the text of a file, or of the one test file below a folder, on disk or `gs://`.

    Raises:
      UserError: there is no such file, none or more than one in the folder, nothing in it, or it is not UTF-8.
    """
    file = _test_file(path)
    text = read_text_file(file)
    return TextFile(file, text, hashlib.sha256(text.encode("utf-8")).hexdigest())


def download(folder: str, official: OfficialFile = WIKITEXT_TEST) -> str:
    """Returns the path of the official file in a folder, to which it is fetched unless it is there already.

    The file appears whole, and only if its SHA-256 is the official one.

    Raises:
      UserError: another file has its name, the folder cannot be written, or only other content was found on the web.
      StorageUnavailable: the web cannot be reached, or no place has the archive any more.
    """
    path = storage.join(folder, storage.base_name(official.member))
    if storage.exists(path):
        _require_official(path, official)
        return path
    storage.of(folder).require_writable(folder)
    storage.write_bytes(path, _fetched(official))
    return path


def _test_file(path: str) -> str:
    if storage.of(path).is_file(path):
        return path
    files = storage.of(path).list_files(path)
    found = [file for file in files if TEST_FILE.fullmatch(storage.base_name(file))]
    if not files or len(found) == 1:
        return found[0] if found else path
    names = ", ".join(found or files[:5])
    raise UserError(
        f"a folder must hold one test file, as wiki.test.raw, and {path} holds {len(found)} among {len(files)} files "
        f"({names}): name the file."
    )


def _require_official(path: str, official: OfficialFile) -> None:
    if (found := storage.file_sha256(path)) != official.sha256:
        raise UserError(
            f"what is downloaded must not replace another file, and {path} is there with SHA-256 {found} in the place "
            f"of {official.sha256}: name another folder, or score it with --data."
        )
    logging.info("%s is there already, and its SHA-256 is right", path)


def _fetched(official: OfficialFile) -> bytes:
    failures, any_was_wrong = [], False
    for url in official.urls:
        try:
            content = _member(url, official.member)
        except FETCH_ERRORS as error:
            failures.append(f"{url}: {error}")
            continue
        if (found := hashlib.sha256(content).hexdigest()) == official.sha256:
            return content
        any_was_wrong = True
        failures.append(f"{url}: its {official.member} has SHA-256 {found}")
    reason = (
        f"{official.member} with SHA-256 {official.sha256} must be at one of its places on the web, and it is not "
        f"({'; '.join(failures)}): fetch it by other means, and name it with --data."
    )
    raise UserError(reason) if any_was_wrong else StorageUnavailable(reason)


def _member(url: str, member: str) -> bytes:
    logging.info("fetching %s", url)
    with urllib.request.urlopen(url, timeout=ARCHIVE_TIMEOUT_SECONDS) as answer:
        archive = answer.read(MOST_ARCHIVE_BYTES)
    with zipfile.ZipFile(io.BytesIO(archive)) as files, files.open(member) as stream:
        return stream.read(MOST_ARCHIVE_BYTES)
