"""Short signatures of texts, by the library rensa, which tell how nearly equal any two of the texts are."""

import hashlib
import importlib.util
import itertools
from collections.abc import Sequence
from types import ModuleType

import numpy as np

from algpt2.errors import UserError
from algpt2.text.ngram_hashes import NgramHashes, mixed, ngram_hashes

SIGNATURE_VALUES = 128
SIGNATURE_DTYPE = np.dtype("<u2")
# Sets of so many numbers take each of the library's ways.
CHECKED_SIZES = (1, 2, 5, 50, 130, 500, 3000)
EXPECTED_SHA256 = "1243c03a3d83692a3dba9e437a0d9744bebda4cee513465203159a278396d8cc"
INSTALL = "pip install 'algpt2[near]'"


class Signer:
    """Makes the MinHash signatures of texts, of their n-grams of 5 words (`ngram_hashes.py`).

    In two signatures about as large a part of the values is equal as n-grams are common to both texts, of all that
    either has: their Jaccard similarity. With 128 values the error of the estimate is 0.035 at a similarity of 0.8.

    What a signature is made of is the library's own business. So it is compared at the start with one that is known:
    signatures of another version would fit to no other's, and records would depend on the version.

    Raises:
      UserError: the package is not installed, or it gives other signatures.
    """

    def __init__(self):
        self._library = _rensa()
        sizes = np.array(CHECKED_SIZES)
        numbers = mixed(np.arange(sizes.sum(), dtype=np.uint64))
        found = self._values(NgramHashes(numbers, np.concatenate([[0], np.cumsum(sizes)]).astype(np.uint64)))
        if hashlib.sha256(found.tobytes()).hexdigest() != EXPECTED_SHA256:
            raise UserError(
                "near_duplicates needs the signatures of rensa 0.5, and the package that is installed gives others: "
                f"run `{INSTALL}`."
            )

    def signatures(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Returns a signature of each text, uint16 (N, 128), and whether the text has a word, bool (N,).

        The signature of a text without a word says nothing.
        """
        ngrams = ngram_hashes(texts)
        return self._values(ngrams).astype(SIGNATURE_DTYPE), np.diff(ngrams.starts) > 0

    def _values(self, ngrams: NgramHashes) -> np.ndarray:
        """Returns the library's signatures, uint32 (texts, 128); the low half of each value is as random as all."""
        matrix = self._library.RMinHash.digest_matrix_from_flat_token_hashes(*ngrams, SIGNATURE_VALUES, 0)
        count = (len(ngrams.starts) - 1) * SIGNATURE_VALUES
        values = np.fromiter(itertools.chain.from_iterable(matrix.to_rows()), np.uint32, count)
        return values.reshape(-1, SIGNATURE_VALUES)


def _rensa() -> ModuleType:
    if importlib.util.find_spec("rensa") is None:
        raise UserError(
            f"near_duplicates needs the package rensa, which is not installed: run `{INSTALL}`, or leave it out."
        )
    import rensa

    return rensa
