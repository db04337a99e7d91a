"""The n-grams of words that texts have, as numbers: texts that are nearly equal have most of them in common.

A word is what `ngrams.py` says. A word's number is a hash of its characters, so it is the same in every process and on
every machine.
"""

import functools
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from algpt2.text.long_texts import has_long
from algpt2.text.ngrams import WORD, hashes_in_a_row

NGRAM_WORDS = 5
BLOCK_CHARACTERS = 1 << 20
LEAST_POWERS = 1 << 21
CODE_POINTS = 0x110000
BASE = 0xD6E8FEB86659FD93
INVERSE_OF_BASE = pow(BASE, -1, 2**64)
_NO_WORD = re.compile(r"[\W_]")


class NgramHashes(NamedTuple):
    """The n-grams of some texts.

    hashes: uint64 (N,), those of each text after those of the one before, each as often as it stands there.
    starts: uint64 (texts + 1,), at which of them each text's begin, and the last one's end.
    """

    hashes: np.ndarray
    starts: np.ndarray


def ngram_hashes(texts: Sequence[str]) -> NgramHashes:
    """Returns the hashes of all `NGRAM_WORDS` words in a row in each text.

    A text of fewer words has one n-gram, of all of them; one without a word has none.

    Example:

    >>> hashes, starts = ngram_hashes(["One two three four five six!", "one, two; three four FIVE", "one", "?"])
    >>> starts.tolist(), bool(hashes[0] == hashes[2]), bool(hashes[1] == hashes[2])
    ([0, 2, 3, 4, 4], True, False)
    """
    return _ngrams(*(_words_of_each(texts) if has_long(texts) else _words_of_all(texts)))


def mixed(numbers: np.ndarray) -> np.ndarray:
    """Mixes the bits of uint64 numbers in place, as the generator SplitMix64 does at its end, and returns them."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        numbers ^= numbers >> np.uint64(shift)
        numbers *= np.uint64(factor)
    numbers ^= numbers >> np.uint64(31)
    return numbers


def _words_of_all(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the hashes of the words of all texts, uint64 (N,), and how many words each has, int64 (texts,)."""
    lowered = [text.lower() for text in texts]
    hashes, starts = _word_hashes("\n".join(lowered))
    ends = np.cumsum([len(text) + 1 for text in lowered])
    return hashes, np.diff(np.searchsorted(starts, ends), prepend=0)


def _words_of_each(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the same, in the memory that a block of text needs and not a text."""
    hashes = [[_word_hashes(block.lower())[0] for block in _blocks(text)] for text in texts]
    counts = [sum(map(len, of_text)) for of_text in hashes]
    return np.concatenate([np.empty(0, np.uint64), *itertools.chain(*hashes)]), np.array(counts)


def _blocks(text: str) -> Iterator[str]:
    """Yields a text in parts that end where no word goes on."""
    start = 0
    while start < len(text):
        found = _NO_WORD.search(text, start + BLOCK_CHARACTERS)
        end = found.start() if found else len(text)
        yield text[start:end]
        start = end


def _word_hashes(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns a hash of each word, uint64 (N,), and where the words begin, int64 (N,); no character is a Python object.

    The hash is that of a polynomial in `BASE` with the characters as coefficients. Its terms are taken with the powers
    of the places in the text, of which the word's own is divided out.
    """
    codes = np.frombuffer(f"{text}\n".encode("utf-32-le"), np.uint32)
    edges = np.flatnonzero(np.diff(_are_of_words()[codes], prepend=False))
    starts = edges[::2]
    if not len(starts):
        return np.empty(0, np.uint64), starts
    powers, inverses = _powers(max(LEAST_POWERS, 1 << len(codes).bit_length()))
    sums = np.add.reduceat(codes * powers[: len(codes)], edges)[::2]
    return mixed(sums * inverses[starts]), starts


def _ngrams(words: np.ndarray, counts: np.ndarray) -> NgramHashes:
    """Returns the n-grams of texts that have so many words each."""
    lengths = np.where(counts > 0, np.maximum(counts, NGRAM_WORDS), 0)
    padded, ends = _padded(words, counts, lengths), np.cumsum(lengths)
    starts = np.concatenate([[0], np.cumsum(np.maximum(lengths - NGRAM_WORDS + 1, 0))]).astype(np.uint64)
    hashes = hashes_in_a_row(padded, NGRAM_WORDS)
    if len(hashes) > starts[-1]:
        is_within = np.ones(len(padded), bool)
        is_within[ends[lengths > 0, None] - np.arange(1, NGRAM_WORDS)] = False
        hashes = hashes[is_within[: len(hashes)]]
    return NgramHashes(mixed(hashes), starts)


def _padded(words: np.ndarray, counts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns the words of texts, those of each followed by zeros up to its length."""
    if np.array_equal(counts, lengths):
        return words
    padded = np.zeros(lengths.sum(), np.uint64)
    moved_by = (np.cumsum(lengths) - lengths) - (np.cumsum(counts) - counts)
    padded[np.arange(len(words)) + np.repeat(moved_by, counts)] = words
    return padded


@functools.lru_cache(maxsize=1)
def _powers(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first powers of the base, and of its inverse, modulo 2^64."""
    powers, inverses = (np.cumprod(np.full(count, base, np.uint64)) for base in (BASE, INVERSE_OF_BASE))
    return powers, inverses


@functools.cache
def _are_of_words() -> np.ndarray:
    """Returns which characters words are made of, bool (code points,)."""
    are_of_words = np.zeros(CODE_POINTS, bool)
    for found in WORD.finditer("".join(map(chr, range(CODE_POINTS)))):
        are_of_words[found.start() : found.end()] = True
    return are_of_words
