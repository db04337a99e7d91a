"""A sample of documents by a hash of their text: the same for the same documents, in whatever files and order."""

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

from algpt2.text.documents import Document

BUCKETS = 1 << 16


def buckets_within(documents: Iterable[Document], max_bytes: int) -> int:
    """Returns how many buckets, from the first on, hold at most so many UTF-8 bytes; `BUCKETS` if all do.

    Args:
      documents: read once, and not kept.
      max_bytes: of the documents that a sample may have.
    """
    sizes = np.zeros(BUCKETS, dtype=np.int64)
    for document in documents:
        sizes[_bucket_of(document)] += len(document.utf8)
    return int(np.searchsorted(np.cumsum(sizes), max_bytes, side="right"))


def in_buckets(documents: Iterable[Document], count: int) -> Iterator[Document]:
    """Yields the documents of the first buckets."""
    return (document for document in documents if _bucket_of(document) < count)


def _bucket_of(document: Document) -> int:
    return int.from_bytes(hashlib.blake2b(document.utf8, digest_size=2, person=b"algpt2-sample").digest(), "big")
