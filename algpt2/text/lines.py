"""The lines of a file, as those count them who read one document or conversation in each."""

from collections.abc import Iterable, Iterator


def without_last_empty(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yields lines, but for one empty line at the end, with which many writers end a file."""
    empty = None
    for line in lines:
        if empty is not None:
            yield empty
        empty = None if line.strip() else line
        if empty is None:
            yield line
