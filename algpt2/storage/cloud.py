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
from google.cloud.storage.retry import DEFAULT_RETRY

from algpt2.errors import UserError


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
            "gs:// paths need Google Cloud credentials and none were found: "
            "run `gcloud auth application-default login` or set GOOGLE_APPLICATION_CREDENTIALS."
        ) from error


def _split(path: str) -> tuple[str, str]:
    """'gs://bucket/a/b' -> ('bucket', 'a/b')."""
    bucket, _, name = path.removeprefix("gs://").partition("/")
    return bucket, name


class CloudStorage:
    """Objects on Cloud Storage, as `storage.Storage` asks for them.

    The upload of an object is atomic. There are no folders: a folder is a common prefix of names.
    """

    def exists(self, path: str) -> bool:
        return self.is_file(path) or bool(self._list(path.rstrip("/") + "/", max_results=1))

    def is_file(self, path: str) -> bool:
        return not path.endswith("/") and self._find(path) is not None

    def size_bytes(self, path: str) -> int:
        return self._get(path).size

    def crc32c(self, path: str) -> str:
        return base64.b64decode(self._get(path).crc32c).hex()

    def list_files(self, folder: str) -> list[str]:
        return self._list(folder.rstrip("/") + "/")

    def match(self, pattern: str) -> list[str]:
        fixed = pattern[: min(pattern.index(mark) for mark in "*?[" if mark in pattern)]
        wanted = pattern.rstrip("/").split("/")
        candidates = {candidate for path in self._list(fixed) for candidate in _with_folders(path)}
        return sorted(candidate for candidate in candidates if _matches(candidate.split("/"), wanted))

    def open_read(self, path: str) -> BinaryIO:
        return self._get(path).open("rb")

    def publish(self, local_file: str, path: str) -> None:
        try:
            self._blob(path).upload_from_filename(local_file, checksum="crc32c")
        except exceptions.NotFound as error:
            raise _no_bucket(path) from error
        except exceptions.Forbidden as error:
            raise _forbidden(path) from error

    def delete_file(self, path: str) -> None:
        self._blob(path).delete()

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
            self._copy(path, target.rstrip("/") + path.removeprefix(source.rstrip("/")))
        for path in paths:
            self.delete_file(path)

    def work_folder(self, path: str) -> str:
        return tempfile.gettempdir()

    def require_writable(self, folder: str) -> None:
        bucket, _ = _split(folder)
        try:
            list(gcs_client().list_blobs(bucket, max_results=1))
        except exceptions.NotFound as error:
            raise _no_bucket(folder) from error
        except exceptions.Forbidden as error:
            raise _forbidden(folder) from error

    def generation(self, path: str) -> int:
        """Returns the number of an object's version, which every write changes, or 0 where no object is."""
        blob = self._find(path)
        return blob.generation if blob else 0

    def write_if_generation(self, path: str, text: str, generation: int, timeout_seconds: float = 120.0) -> int:
        """Writes an object if its version still is `generation`; returns its new one, or 0 if it was another."""
        blob, retry = self._blob(path), DEFAULT_RETRY.with_timeout(timeout_seconds)
        try:
            blob.upload_from_string(text, if_generation_match=generation, timeout=timeout_seconds, retry=retry)
            return blob.generation
        except exceptions.PreconditionFailed:
            return 0
        except exceptions.NotFound as error:
            raise _no_bucket(path) from error
        except exceptions.Forbidden as error:
            raise _forbidden(path) from error

    def delete_if_generation(self, path: str, generation: int, timeout_seconds: float = 120.0) -> None:
        """Deletes an object if its version still is `generation`, else leaves what is there."""
        retry = DEFAULT_RETRY.with_timeout(timeout_seconds)
        with contextlib.suppress(exceptions.PreconditionFailed, exceptions.NotFound):
            self._blob(path).delete(if_generation_match=generation, timeout=timeout_seconds, retry=retry)

    def _copy(self, source: str, target: str) -> None:
        """Copies one object within the service; a large one may take several calls, linked by a token.

        The client may retry a call whose answer got lost, because copying twice does no harm.
        """
        source_blob, target_blob = self._blob(source), self._blob(target)
        token, *_ = target_blob.rewrite(source_blob, retry=DEFAULT_RETRY)
        while token:
            token, *_ = target_blob.rewrite(source_blob, token=token, retry=DEFAULT_RETRY)

    def _blob(self, path: str) -> gcs.Blob:
        bucket, name = _split(path)
        return gcs_client().bucket(bucket).blob(name)

    def _find(self, path: str) -> gcs.Blob | None:
        bucket, name = _split(path)
        if not name:
            return None
        try:
            return gcs_client().bucket(bucket).get_blob(name)
        except exceptions.Forbidden as error:
            raise _forbidden(path) from error

    def _get(self, path: str) -> gcs.Blob:
        blob = self._find(path)
        if blob is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return blob

    def _list(self, prefix: str, max_results: int | None = None) -> list[str]:
        bucket, name = _split(prefix)
        try:
            blobs = list(gcs_client().list_blobs(bucket, prefix=name, max_results=max_results))
        except exceptions.NotFound:
            return []
        except exceptions.Forbidden as error:
            raise _forbidden(prefix) from error
        return sorted(f"gs://{bucket}/{blob.name}" for blob in blobs if not blob.name.endswith("/"))


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


def _no_bucket(path: str) -> UserError:
    bucket, _ = _split(path)
    return UserError(
        f"a gs:// path must lie in an existing bucket and there is no {bucket}: "
        f"run `gcloud storage buckets create gs://{bucket}` or name another."
    )


def _forbidden(path: str) -> UserError:
    return UserError(
        f"Google Cloud Storage refused access to {path} (403): grant this account, and the TPU's service account, "
        "roles/storage.objectAdmin on the bucket."
    )
