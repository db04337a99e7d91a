"""A lock on Cloud Storage: an object that its holder keeps rewriting, so that it does not outlive its holder for long.

No process compares its clock with another's. Every write gives an object a new generation, and whoever has seen the
same generation for a whole lease time, by its own monotonic clock, takes the object over. Every write names the
generation that it replaces and fails on any other, so of two takers one wins
(https://cloud.google.com/storage/docs/request-preconditions).
"""

import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from absl import logging
from google.api_core import exceptions

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.storage.cloud import CloudStorage
from algpt2.storage.failure_log import FailureLog, reason_of
from algpt2.storage.folder_lock import Use
from algpt2.storage.patience import trying_for

LEASE_SECONDS = 90.0
RENEWALS_PER_LEASE = 6
RENEWAL_TIMEOUT_SECONDS = 10.0


class Lease:
    """While entered, holds the object `path`, and deletes it at the end if it still is its own.

    Entering waits at most a lease time for a holder that may be dead, and raises `UserError` if that one lives or
    another process is faster. `lost` turns true, for good, when a renewal finds that the object is no longer its own;
    a renewal that fails tells nothing and is tried again, so a holder that was cut off learns of it once it can write.
    Until then `confirmed` is false, from the moment on at which another process may have taken the object over.

    Args:
      path: the object's path.
      lease_seconds: for how long a holder may be silent; `LEASE_SECONDS` if it is None.
      clock: seconds since some moment.
      sleep: waits for some seconds of that clock, while another holder is watched.
      use: what the object's folder is held for.
    """

    def __init__(
        self,
        path: str,
        lease_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
        use: Use = Use(),  # noqa: B008, it is frozen
    ):
        self.lost = False
        self._clock = clock
        self._sleep = sleep
        self._use = use
        self._path = path
        self._lease_seconds = LEASE_SECONDS if lease_seconds is None else lease_seconds
        self._pause_seconds = self._lease_seconds / RENEWALS_PER_LEASE
        self._storage = CloudStorage()
        self._claim = f"process {os.getpid()} on {socket.gethostname()}, {secrets.token_hex(8)}"
        self._generation = 0
        self._renewed = clock()
        self._log = FailureLog("renewed")
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_renewing, name="lease", daemon=True)

    def __enter__(self) -> "Lease":
        replaced = self._await_end_of_holder()
        self._renewed = self._clock()
        self._generation = self._write(replaced)
        if not self._generation:
            raise self._refusal()
        self._thread.start()
        return self

    @property
    def confirmed(self) -> bool:
        """Whether no other process can have the object, which takes a lease time without a renewal."""
        return not self.lost and self._clock() - self._renewed < self._lease_seconds

    def __exit__(self, *_: Any) -> None:
        self._ended.set()
        self._thread.join()
        try:
            with trying_for(RENEWAL_TIMEOUT_SECONDS):
                self._let_go()
        except Exception as error:  # This must not hide how the run ended, and the next run can take the object over.
            logging.warning("%s could not be deleted (%s): the next run waits for it", self._path, reason_of(error))

    def _let_go(self) -> None:
        if not self.lost:
            self._renew()  # finds out whether the object still is ours
        if not self.lost:
            self._storage.delete_if_generation(self._path, self._generation, RENEWAL_TIMEOUT_SECONDS)

    def _await_end_of_holder(self) -> int:
        """Returns the generation to replace, 0 if there is none; raises `UserError` if its holder renews it."""
        first = present = self._storage.generation(self._path)
        give_up = self._clock() + self._lease_seconds
        if first:
            logging.warning(
                "%s is held by %s: waiting %g s to see whether it lives",
                self._path,
                self._holder() or "another process",
                self._lease_seconds,
            )
        while present and self._clock() < give_up:
            self._sleep(self._pause_seconds)
            present = self._storage.generation(self._path)
        if present not in (0, first):
            raise self._refusal()
        return present

    def _keep_renewing(self) -> None:
        while not self.lost and not self._ended.wait(self._pause_seconds):
            self._try_to_renew()

    def _try_to_renew(self) -> None:
        try:
            with trying_for(RENEWAL_TIMEOUT_SECONDS):
                self._renew()
            self._log.succeeded(self._path)
        except Exception as error:  # Whatever the storage raises, the next renewal may succeed.
            self._log.failed(self._path, reason_of(error))

    def _renew(self) -> None:
        begin = self._clock()
        generation = self._write(self._generation, RENEWAL_TIMEOUT_SECONDS)
        self.lost = not generation
        if self.lost:
            logging.error("%s is lost to %s", self._path, self._holder() or "whoever deleted it")
        else:
            self._generation, self._renewed = generation, begin

    def _write(self, replaced: int, *timeout_seconds: float) -> int:
        """Returns the object's new generation, or 0 if another process wrote or deleted it."""
        return (
            self._storage.write_if_generation(self._path, self._claim, replaced, *timeout_seconds)
            or self._own_generation()
        )

    def _own_generation(self) -> int:
        """Returns the object's generation if it is ours, else 0.

        The client tries a write whose answer got lost again, and that fails on the generation that it made itself. The
        claim is read after the generation: if it is ours then, so was the object when it had that generation, because
        nobody else writes our claim.
        """
        generation = self._storage.generation(self._path)
        return generation if self._holder() == self._claim else 0

    def _holder(self) -> str:
        try:
            return storage.read_text(self._path)
        except (FileNotFoundError, exceptions.NotFound):  # A deletion between a read's two requests raises the latter.
            return ""

    def _refusal(self) -> UserError:
        return self._use.refusal(storage.parent(self._path), self._holder() or "another one")
