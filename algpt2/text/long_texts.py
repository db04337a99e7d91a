"""Long texts in parts whose words are those of the whole, so that what is done with them takes bounded memory."""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from algpt2.text.faults import UNBROKEN_TEXT, InputFault

LONG_CHARACTERS = 1 << 20
PART_CHARACTERS = 1 << 16
PARTS_AT_A_TIME = 16
MOST_UNBROKEN_CHARACTERS = 1 << 22

# Places at which GPT-2's pattern ends a word, whatever stands around them: no word goes on into white space or into
# another kind of character, but for signs behind one space, and letters behind an apostrophe. Only characters are
# named here whose kind is the same in every version of Unicode.
_BREAK = re.compile(
    r"(?<=\S)(?=[ \n])"
    r"|(?<=[A-Za-z])(?=[!-@\[-`{-~])"
    r"|(?<=[0-9])(?=[!-/:-~])"
    r"|(?<=[!-&(-/:-@\[-`{-~])(?=[0-9A-Za-z])"
)


def parts_of(text: str, characters: int = PART_CHARACTERS) -> Iterator[str]:
    """Yields a text in parts of about so many characters; the ids of the parts are those of the whole.

    A part is longer where the text has no break.

    Example:

    >>> [*parts_of("one two, three", 4)]
    ['one two', ', three']
    """
    start = 0
    while len(text) - start > characters:
        found = _BREAK.search(text, start + characters)
        end = found.start() if found else len(text)
        yield text[start:end]
        start = end
    if start < len(text) or not text:
        yield text[start:]


def has_long(texts: Sequence[str]) -> bool:
    """Returns whether one of some texts is to be encoded in parts: what a library keeps of it is 100 times the text."""
    return any(len(text) > LONG_CHARACTERS for text in texts)


def encoded_in_parts(
    encode: Callable[[list[str]], tuple[np.ndarray, np.ndarray]], texts: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what `encode` would of the texts, but calls it with a few of their parts at a time.

    Args:
      encode: an encoder's `encode_arrays`.
      texts: one or more.
    """
    arrays, lengths = [], []
    for text in texts:
        of_text = [encode(parts)[0] for parts in _groups(parts_of(text))]
        arrays += of_text
        lengths.append(sum(map(len, of_text)))
    return np.concatenate(arrays), np.array(lengths, dtype=np.uint32)


def _groups(parts: Iterator[str]) -> Iterator[list[str]]:
    while group := [*itertools.islice(parts, PARTS_AT_A_TIME)]:
        yield group


def first_unbroken(text: str) -> int | None:
    """Returns about where a text has no break for `MOST_UNBROKEN_CHARACTERS`, None where there is no such place.

    Each character of a word takes an encoder 150 bytes, so that a text of zeros can take all memory.
    """
    place = PART_CHARACTERS
    while place + MOST_UNBROKEN_CHARACTERS <= len(text):
        found = _BREAK.search(text, place, place + MOST_UNBROKEN_CHARACTERS)
        if found is None:
            return place
        place = found.start() + PART_CHARACTERS
    return None


def require_breaks(text: str, file: str, place: str) -> None:
    """Raises `InputFault` with the place of a text that has no break for `MOST_UNBROKEN_CHARACTERS`."""
    unbroken = first_unbroken(text)
    if unbroken is not None:
        raise InputFault(
            UNBROKEN_TEXT,
            file,
            f"a text must have a space, a line end or another kind of character within {MOST_UNBROKEN_CHARACTERS} "
            f"characters, and {place} has none from character {unbroken} on: part it, for example into lines.",
        )
