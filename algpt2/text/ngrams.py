r"""Words in a row that a document shares with given texts, as GPT-3's paper looked for its evaluations in its corpus.

A word is a run of letters and digits, in lower case; whatever else stands between two words counts for nothing. So
"It's 3 o'clock" is it, s, 3, o, clock, as is WikiText's "It 's 3 o 'clock". The paper (arXiv 2005.14165, appendix C)
deletes punctuation instead, where `state-of` and WikiText's `state @-@ of` would differ.
"""

import itertools
import re
from collections.abc import Iterable

import numpy as np

WORD = re.compile(r"[^\W_]+")
HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_NO_WORD = 0


class Ngrams:
    """The n-grams of some texts: so many words in a row, none of which goes from one text into another.

    Memory grows with these texts and not with the documents that are compared with them.

    Attributes:
      count: how many n-grams the texts have, each as often as it stands there.
      short_texts: how many texts are too short to have one.

    Example:

    >>> ngrams = Ngrams(["The cat sat, on the mat."], words=3)
    >>> ngrams.are_shared_with("where THE-CAT SAT down"), ngrams.are_shared_with("the cat lay on the mat")
    (True, True)
    >>> ngrams.are_shared_with("the mat, on the cat")
    False
    """

    def __init__(self, texts: Iterable[str], words: int):
        """Takes the texts, which are read once, and how many words an n-gram has."""
        self._words = words
        self._numbers: dict[str, int] = {}
        self.short_texts = 0
        parts = [np.zeros(1, np.uint64)]
        for text in texts:
            numbers = self._numbered(_words_of(text))
            self.short_texts += len(numbers) < words
            parts += [numbers, np.zeros(1, np.uint64)]
        self._text = np.concatenate(parts)
        hashes, places = self._windows(self._text)
        order = np.argsort(hashes, kind="stable")
        self._hashes, self._places = hashes[order], places[order]
        self.count = len(hashes)

    def are_shared_with(self, document: str) -> bool:
        """Returns whether a document has one of the n-grams."""
        words = _words_of(document)
        numbers = np.fromiter(map(self._numbers.get, words, itertools.repeat(_NO_WORD)), np.uint64, len(words))
        hashes, places = self._windows(numbers)
        first = np.searchsorted(self._hashes, hashes)
        found = np.flatnonzero(np.take(self._hashes, first, mode="clip") == hashes) if self.count else ()
        return any(self._is_at(numbers[places[one] :], int(first[one])) for one in found)

    def _is_at(self, numbers: np.ndarray, first: int) -> bool:
        """Returns whether one of the n-grams with a hash, from the first on, has these words and not the hash alone."""
        end = int(np.searchsorted(self._hashes, self._hashes[first], side="right"))
        texts = (self._text[place : place + self._words] for place in self._places[first:end])
        return any(np.array_equal(numbers[: self._words], text) for text in texts)

    def _numbered(self, words: list[str]) -> np.ndarray:
        numbers = (self._numbers.setdefault(word, len(self._numbers) + 1) for word in words)
        return np.fromiter(numbers, np.uint64, len(words))

    def _windows(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the hashes, uint64 (N,), of all n-grams in which each word has a number, and where they begin."""
        count = len(numbers) - self._words + 1
        if count <= 0:
            return np.empty(0, np.uint64), np.empty(0, np.int64)
        # The sum of so many before a place is how many words without a number there are up to it.
        unknown = np.concatenate([[0], np.cumsum(numbers == _NO_WORD)])
        places = np.flatnonzero(unknown[self._words :] == unknown[:count])
        return hashes_in_a_row(numbers, self._words)[places], places


def hashes_in_a_row(numbers: np.ndarray, count: int) -> np.ndarray:
    """Returns a hash of each so many numbers in a row, uint64 (N - count + 1,), none of fewer numbers (N,)."""
    hashes = np.zeros(max(0, len(numbers) - count + 1), np.uint64)
    for offset in range(count):
        hashes *= HASH_FACTOR
        hashes += numbers[offset : offset + len(hashes)]
    return hashes


def _words_of(text: str) -> list[str]:
    return WORD.findall(text.lower())
