"""Files of documents' signatures, of which those that may be nearly equal are found without reading all of them.

A signature is cut into bands of some of its values each. The more equal two documents are, the likelier they have a
band in common, so only documents that have one are compared. A file begins with its bands, each a hash of the values,
sorted and with an index of bins, as those of `sorted_documents.py`. Behind them stand the documents.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from algpt2 import storage
from algpt2.preparation.document_keys import are_new, sorting
from algpt2.preparation.sorted_documents import Layout
from algpt2.text.ngram_hashes import mixed
from algpt2.text.ngrams import HASH_FACTOR
from algpt2.text.signatures import SIGNATURE_DTYPE, SIGNATURE_VALUES

FILE_DOCUMENTS = 1 << 16
# The least chance that two documents have a band in common whose similarity is exactly the threshold.
LEAST_CHANCE = 0.9
_NUMBER_DTYPE = np.dtype("<u8")
_ROW_DTYPE = np.dtype("<u4")
SIGNED_DTYPE = np.dtype(
    [("digest", "<u8", (2,)), ("is_train", "?"), ("signature", SIGNATURE_DTYPE, (SIGNATURE_VALUES,))]
)


@dataclasses.dataclass(frozen=True)
class Bands:
    """How signatures are cut: into so many bands of so many values each.

    Example:

    >>> Bands.of(0.8), Bands.of(0.5), Bands.of(1.0)
    (Bands(count=16, values=8), Bands(count=42, values=3), Bands(count=1, values=128))
    """

    count: int
    values: int

    @classmethod
    def of(cls, threshold: float) -> "Bands":
        """Returns the longest bands of which documents of that similarity have one in common with `LEAST_CHANCE`."""
        kinds = (cls(SIGNATURE_VALUES // values, values) for values in range(SIGNATURE_VALUES, 1, -1))
        return next((bands for bands in kinds if bands.chance(threshold) >= LEAST_CHANCE), cls(SIGNATURE_VALUES, 1))

    def chance(self, similarity: float) -> float:
        """Returns how likely two documents of a similarity have a band in common."""
        return 1 - (1 - similarity**self.values) ** self.count

    def hashes(self, signatures: np.ndarray) -> np.ndarray:
        """Returns the hashes of the bands of signatures (N, 128), uint64 (N, count); another band has other hashes."""
        values = signatures[:, : self.count * self.values].reshape(len(signatures), self.count, self.values)
        hashes = np.tile(np.arange(self.count, dtype=np.uint64), (len(signatures), 1))
        for place in range(self.values):
            hashes *= HASH_FACTOR
            hashes += values[:, :, place]
        return mixed(hashes)


class SignatureFiles:
    """Writes the files of signatures of one piece of the input, each of a bounded number of documents."""

    def __init__(self, name: str, bands: Bands, layout: Layout, folder: str):
        """Takes how the files' names begin, how signatures are cut and bands are binned, and the folder."""
        self._name = name
        self._bands = bands
        self._layout = layout
        self._folder = folder
        self._names: list[str] = []
        self._waiting: list[np.ndarray] = []

    def add(self, digests: np.ndarray, held_out: np.ndarray, signatures: np.ndarray) -> None:
        """Takes documents: their digests, uint64 (N, 2), whether they are of `val`, bool (N,), and their signatures."""
        documents = np.empty(len(digests), SIGNED_DTYPE)
        documents["digest"], documents["is_train"], documents["signature"] = digests, ~held_out, signatures
        self._waiting.append(documents)
        if sum(map(len, self._waiting)) >= FILE_DOCUMENTS:
            self._write()

    def close(self) -> tuple[str, ...]:
        """Writes what waits, and returns the names of all files."""
        if any(map(len, self._waiting)):
            self._write()
        return tuple(self._names)

    def _write(self) -> None:
        name = f"{self._name}-{len(self._names):03d}.signatures"
        _write_signed(storage.join(self._folder, name), self._waiting, self._bands, self._layout)
        self._names.append(name)
        self._waiting = []


def _write_signed(path: str, parts: Sequence[np.ndarray], bands: Bands, layout: Layout) -> None:
    """Writes a file of documents, `SIGNED_DTYPE` (N,) each, whole or not at all; copies of a text are there once."""
    documents = np.concatenate(parts)
    order = sorting(documents["digest"])
    documents = documents[order[are_new(documents["digest"][order])]]
    hashes = bands.hashes(documents["signature"]).reshape(-1)
    order = np.argsort(hashes, kind="stable")
    with storage.writing(path) as local_file, open(local_file, "wb") as stream:
        for array, dtype in (
            (layout.bin_starts(hashes[order, None]), _NUMBER_DTYPE),
            (hashes[order], _NUMBER_DTYPE),
            (order // bands.count, _ROW_DTYPE),
            (documents, SIGNED_DTYPE),
        ):
            stream.write(np.ascontiguousarray(array, dtype).data)


class SignatureFile:
    """One file of signatures, on this machine. Nothing of it is kept, because there may be thousands of them."""

    def __init__(self, path: str, layout: Layout):
        self._path = path
        self._layout = layout

    def bands_of_bin(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the hashes of a bin's bands, sorted, uint64 (N,), and whose they are, rows of `documents`, (N,)."""
        (first, end), count = self._index(number, 2), self._bands
        hashes_at = (self._layout.bins + 1) * _NUMBER_DTYPE.itemsize
        rows_at = hashes_at + count * _NUMBER_DTYPE.itemsize
        hashes = np.fromfile(self._path, _NUMBER_DTYPE, end - first, offset=hashes_at + first * _NUMBER_DTYPE.itemsize)
        rows = np.fromfile(self._path, _ROW_DTYPE, end - first, offset=rows_at + first * _ROW_DTYPE.itemsize)
        return hashes, rows

    def documents(self, rows: np.ndarray, field: str) -> np.ndarray:
        """Returns a field of `SIGNED_DTYPE` of some documents."""
        bytes_of_bands = self._bands * (_NUMBER_DTYPE.itemsize + _ROW_DTYPE.itemsize)
        documents_at = (self._layout.bins + 1) * _NUMBER_DTYPE.itemsize + bytes_of_bands
        return np.array(np.memmap(self._path, SIGNED_DTYPE, "r", offset=documents_at)[field][rows])

    @property
    def _bands(self) -> int:
        return self._index(self._layout.bins, 1)[0]

    def _index(self, number: int, count: int) -> list[int]:
        return np.fromfile(self._path, _NUMBER_DTYPE, count, offset=number * _NUMBER_DTYPE.itemsize).tolist()
