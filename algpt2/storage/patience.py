"""How long one operation on Cloud Storage is retried before it fails, which depends on who waits for it."""

import contextlib
import contextvars
from collections.abc import Iterator

DEFAULT_SECONDS = 120.0  # Google's own

_limit_seconds: contextvars.ContextVar[float | None] = contextvars.ContextVar("limit_seconds", default=None)


def patience_seconds() -> float:
    """Returns for how many seconds an operation is retried: `DEFAULT_SECONDS`, unless `trying_for` says otherwise."""
    limit_seconds = _limit_seconds.get()
    return DEFAULT_SECONDS if limit_seconds is None else limit_seconds


def is_limited() -> bool:
    """Returns whether this runs within `trying_for`."""
    return _limit_seconds.get() is not None


@contextlib.contextmanager
def trying_for(seconds: float) -> Iterator[None]:
    """Lets the operations of the block, on this thread, fail after so many seconds; whoever enters it tells of that."""
    token = _limit_seconds.set(seconds)
    try:
        yield
    finally:
        _limit_seconds.reset(token)
