"""Objects on Google Cloud Storage, through the `google-cloud-storage` package."""

import base64
import contextlib
import errno
import fnmatch
import functools
import os
import tempfile
from typing import BinaryIO

from google.api_core import exceptions
from google.auth import credentials
from google.auth import exceptions as auth_exceptions
from google.cloud import storage as gcs
from google.cloud.storage import fileio

from algpt2.errors import UserError
from algpt2.storage.cloud_requests import CREDENTIALS_REMEDY, requesting, requiring_bucket
from algpt2.storage.files import PATTERN_MARKS, trim
from algpt2.storage.local import FILE, FOLDER


@functools.cache
def gcs_client() -> gcs.Client:
    """Returns the process's client of Cloud Storage, or of the emulator that `STORAGE_EMULATOR_HOST` names.

    Raises:
      UserError: no Google Cloud credentials are found.
    """
    if os.environ.get("STORAGE_EMULATOR_HOST"):
        return gcs.Client(project="emulator", credentials=credentials.AnonymousCredentials())
    try:
        return gcs.Client()
    except auth_exceptions.DefaultCredentialsError as error:
        raise UserError(
            f"gs:// paths need Google Cloud credentials, and none were found ({error}): {CREDENTIALS_REMEDY}."
        ) from error


def _split(path: str) -> tuple[str, str]:
    """'gs://bucket/a/b' -> ('bucket', 'a/b'); raises `UserError` if no bucket can have that name."""
    bucket, _, name = path.removeprefix("gs://").partition("/")
    if not (bucket[:1].isalnum() and bucket[-1:].isalnum()) or any(mark in bucket for mark in PATTERN_MARKS):
        raise UserError(f"a gs:// path must name its bucket, as gs://BUCKET/NAME, and {path!r} does not: name it.")
    return bucket, name


class CloudStorage:
    """Objects on Cloud Storage, as `storage.Storage` asks for them.

    The upload of an object is atomic. There are no folders: a folder is a common prefix of names. Every method raises
    the errors of `cloud_requests.requesting`, also while a stream is read.
    """

    def exists(self, path: str) -> bool:
        return self.is_file(path) or bool(self._list(trim(path) + "/", max_results=1))

    def is_file(self, path: str) -> bool:
        return not path.endswith("/") and self._find(path) is not None

    def kind(self, path: str) -> str | None:
        return FILE if self.is_file(path) else FOLDER if self.list_files(path) else None

    def size_bytes(self, path: str) -> int:
        return self._get(path).size

    def crc32c(self, path: str) -> str:
        return base64.b64decode(self._get(path).crc32c).hex()

    def list_files(self, folder: str) -> list[str]:
        return self._list(trim(folder) + "/")

    def match(self, pattern: str) -> list[str]:
        _split(pattern)
        fixed = pattern[: min(pattern.index(mark) for mark in PATTERN_MARKS if mark in pattern)]
        wanted = trim(pattern).split("/")
        candidates = {candidate for path in self._list(fixed) for candidate in _with_folders(path)}
        return sorted(candidate for candidate in candidates if _matches(candidate.split("/"), wanted))

    def open_read(self, path: str) -> BinaryIO:
        return _Reader(path, self._get(path))

    def publish(self, local_file: str, path: str) -> None:
        with requesting(path) as retry, requiring_bucket(path):
            _blob(path).upload_from_filename(local_file, checksum="crc32c", retry=retry)

    def delete_file(self, path: str) -> None:
        # A deletion whose answer got lost is tried again by the client, and then finds nothing.
        with requesting(path) as retry, contextlib.suppress(exceptions.NotFound):
            _blob(path).delete(retry=retry)

    def delete_folder(self, folder: str) -> None:
        for path in self.list_files(folder):
            self.delete_file(path)

    def move_folder(self, source: str, target: str) -> None:
        if self.exists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        paths = self.list_files(source)
        if not paths:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), source)
        for path in paths:
            self._copy(path, trim(target) + path.removeprefix(trim(source)))
        for path in paths:
            self.delete_file(path)

    def work_folder(self, path: str) -> str:
        _blob(path)  # raises `UserError` if no object can have this path
        return tempfile.gettempdir()

    def require_writable(self, folder: str) -> None:
        self._list(folder, max_results=1)

    def generation(self, path: str) -> int:
        """Returns the number of an object's version, which every write changes, or 0 where no object is."""
        blob = self._find(path)
        return blob.generation if blob else 0

    def write_if_generation(self, path: str, text: str, generation: int, timeout_seconds: float = 120.0) -> int:
        """Writes an object if its version still is `generation`; returns its new one, or 0 if it was another."""
        blob = _blob(path)
        with requesting(path) as retry, requiring_bucket(path):
            try:
                blob.upload_from_string(text, if_generation_match=generation, timeout=timeout_seconds, retry=retry)
                return blob.generation
            except exceptions.PreconditionFailed:
                return 0

    def delete_if_generation(self, path: str, generation: int, timeout_seconds: float = 120.0) -> None:
        """Deletes an object if its version still is `generation`, else leaves what is there."""
        with (
            requesting(path) as retry,
            contextlib.suppress(exceptions.PreconditionFailed, exceptions.NotFound),
        ):
            _blob(path).delete(if_generation_match=generation, timeout=timeout_seconds, retry=retry)

    def _copy(self, source: str, target: str) -> None:
        """Copies one object within the service; a large one may take several calls, linked by a token.

        The client may retry a call whose answer got lost, because copying twice does no harm.
        """
        source_blob, target_blob = _blob(source), _blob(target)
        with requesting(source) as retry:
            token, *_ = target_blob.rewrite(source_blob, retry=retry)
            while token:
                token, *_ = target_blob.rewrite(source_blob, token=token, retry=retry)

    def _find(self, path: str) -> gcs.Blob | None:
        bucket, name = _split(path)
        if not name:
            return None
        with requesting(path) as retry:
            return gcs_client().bucket(bucket).get_blob(name, retry=retry)

    def _get(self, path: str) -> gcs.Blob:
        blob = self._find(path)
        if blob is None:
            self._list(path, max_results=1)  # raises `UserError` if it is the bucket that is missing
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return blob

    def _list(self, prefix: str, max_results: int | None = None) -> list[str]:
        bucket, name = _split(prefix)
        with requesting(trim(prefix)) as retry, requiring_bucket(trim(prefix)):
            blobs = list(gcs_client().list_blobs(bucket, prefix=name, max_results=max_results, retry=retry))
        return sorted(f"gs://{bucket}/{blob.name}" for blob in blobs if not blob.name.endswith("/"))


class _Reader(fileio.BlobReader):
    """A stream of one object, which it requests piece by piece."""

    def __init__(self, path: str, blob: gcs.Blob):
        self._path = path
        with requesting(path) as retry:
            super().__init__(blob, retry=retry)

    def read(self, size: int = -1) -> bytes:
        with requesting(self._path):
            return super().read(size)


def _blob(path: str) -> gcs.Blob:
    """Returns the object of this path, whether it exists or not; raises `UserError` if none can have it."""
    bucket, name = _split(path)
    if not name or name.endswith("/"):
        raise UserError(f"a file on gs:// must have a name, as gs://BUCKET/NAME, and {path!r} has none: add one.")
    return gcs_client().bucket(bucket).blob(name)


def _with_folders(path: str) -> list[str]:
    """'gs://b/x/y' -> ['gs://b/x', 'gs://b/x/y']: an object and the folders that its name implies."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(4, len(parts) + 1)]


def _matches(parts: list[str], wanted: list[str]) -> bool:
    """Compares name by name, as a shell does: `*` stays within a folder, `**` crosses them."""
    if not wanted:
        return not parts
    if wanted[0] == "**":
        return any(_matches(parts[start:], wanted[1:]) for start in range(len(parts) + 1))
    return bool(parts) and fnmatch.fnmatchcase(parts[0], wanted[0]) and _matches(parts[1:], wanted[1:])
