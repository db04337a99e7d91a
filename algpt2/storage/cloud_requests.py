"""What becomes of a request to Cloud Storage that fails: it is tried again, and a line says so, or it is our own error.

Google's client raises errors of five packages, and some only when a stream is read. Whoever asks for a file catches or
prints a `UserError`, a `StorageUnavailable` or a `FileNotFoundError`, on whichever storage the file lies.
"""

import contextlib
import errno
import functools
import http.client
from collections.abc import Callable, Iterator

import requests
import urllib3
from absl import logging
from google.api_core import exceptions
from google.auth import exceptions as auth_exceptions
from google.cloud.storage import exceptions as storage_exceptions
from google.cloud.storage.retry import DEFAULT_RETRY

from algpt2.errors import StorageUnavailable, UserError
from algpt2.storage.patience import is_limited, patience_seconds

NOTICE_SECONDS = 60.0
CREDENTIALS_REMEDY = "run `gcloud auth application-default login` or set GOOGLE_APPLICATION_CREDENTIALS"
CLIENT_ERRORS = (
    exceptions.GoogleAPIError,
    storage_exceptions.InvalidResponse,
    storage_exceptions.DataCorruption,
    auth_exceptions.GoogleAuthError,
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
)


@contextlib.contextmanager
def requesting(path: str) -> Iterator[Callable]:
    """Yields what the client takes as `retry`; errors of requests in the block become ours, with the client's text.

    What may pass by itself (no connection, a status of 5xx or 429) is tried again for `patience_seconds`, and a line
    says so: the first time at once, then at most one a minute in this process. Whoever limits the patience tells of
    what fails in lines of its own, so there is none here.

    Args:
      path: what the requests are about, for the sentences.

    Raises:
      FileNotFoundError: there is no such object.
      UserError: the service refuses the request, which the user can mend.
      StorageUnavailable: the service did not do as asked in all that time.
    """
    seconds = patience_seconds()
    try:
        yield functools.partial(DEFAULT_RETRY.with_timeout(seconds), on_error=functools.partial(_tell, path, seconds))
    except CLIENT_ERRORS as error:
        raise _own_error(path, error) from error


@contextlib.contextmanager
def requiring_bucket(path: str) -> Iterator[None]:
    """Raises `UserError` where the block finds nothing: for requests that need no object, only its bucket."""
    try:
        yield
    except exceptions.NotFound as error:
        bucket = "/".join(path.split("/")[:3])
        raise UserError(
            f"{path} must lie in an existing bucket, and there is no {bucket}: name another, or make it with "
            f"`gcloud storage buckets create {bucket}`."
        ) from error


def _tell(path: str, seconds: float, error: Exception) -> None:
    if is_limited():
        return
    message = "Cloud Storage did not do as asked about %s (%s): a request is tried again for %g s before it fails"
    logging.log_every_n_seconds(logging.WARNING, message, NOTICE_SECONDS, path, _reason(error), seconds)


def _own_error(path: str, error: Exception) -> Exception:
    if isinstance(error, exceptions.NotFound):
        return FileNotFoundError(errno.ENOENT, "it is not there, or was replaced while it was read", path)
    if isinstance(error, exceptions.Forbidden):
        return UserError(
            f"this account must have access to {path}, and Cloud Storage refused it ({error}): grant it, and the TPU's "
            "service account, roles/storage.objectAdmin on the bucket."
        )
    if isinstance(error, exceptions.Unauthorized) or _is_about_credentials(error):
        return UserError(f"{path} needs valid Google Cloud credentials ({error}): {CREDENTIALS_REMEDY}.")
    if isinstance(error, exceptions.ClientError):
        return UserError(
            f"a gs:// path must be one that Cloud Storage accepts, and it refused {path} ({error}): name another."
        )
    if isinstance(error, storage_exceptions.DataCorruption):
        return StorageUnavailable(
            f"{path} must arrive with the checksum that it was sent with, and did not ({error}): run the same command "
            "again."
        )
    return StorageUnavailable(
        f"Cloud Storage must answer, and no request about {path} succeeded ({_reason(error)}): check the network, and "
        "run the same command again."
    )


def _reason(error: Exception) -> Exception:
    """Returns the error that says most: the last failure of several tries, and the answer of an invalid response."""
    if isinstance(error, exceptions.RetryError) and error.cause:
        return _reason(error.cause)
    if isinstance(error, storage_exceptions.InvalidResponse):
        return exceptions.from_http_response(error.response)
    return error


def _is_about_credentials(error: Exception) -> bool:
    return isinstance(error, auth_exceptions.GoogleAuthError) and not isinstance(error, auth_exceptions.TransportError)
