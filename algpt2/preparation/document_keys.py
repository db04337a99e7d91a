"""What decides a document's place: hashes of its content, so that neither files nor their order have a part in it."""

import hashlib

import numpy as np

KEY_BYTES = 16


def content_digest(utf8: bytes) -> bytes:
    """Returns 16 bytes that only the same text has, which is given as UTF-8."""
    return hashlib.blake2b(utf8, digest_size=16, person=b"algpt2-document").digest()


def is_held_out(digest: bytes, val_fraction: float) -> bool:
    """Returns whether the document of a `content_digest` belongs to `val`; seed and order have no part in it."""
    place = hashlib.blake2b(digest, digest_size=8, person=b"algpt2-split").digest()
    return int.from_bytes(place, "big") < val_fraction * 2**64


def order_key(digest: bytes, seed: int, copy: int = 0) -> bytes:
    """Returns the 16 bytes by which documents are sorted, which is their shuffled order.

    Args:
      digest: of the document, as `content_digest` gives it.
      seed: another gives another order.
      copy: 0 is the document itself, 1 its second copy; each has a place of its own in the order.
    """
    content = f"{seed}:".encode() + digest + (f":{copy}".encode() if copy else b"")
    return hashlib.blake2b(content, digest_size=KEY_BYTES, person=b"algpt2-shuffle").digest()


def key_array(keys: list[bytes]) -> np.ndarray:
    """Returns keys as uint64 (N, 2), whose rows sort as the bytes do."""
    return np.frombuffer(b"".join(keys), dtype=">u8").astype(np.uint64).reshape(-1, 2)


def digests_of(array: np.ndarray) -> list[bytes]:
    """Returns the bytes of which `key_array` made an array."""
    return [row.tobytes() for row in array.astype(">u8")]


def sorting(keys: np.ndarray) -> np.ndarray:
    """Returns the order, int64 (N,), that sorts rows of `key_array`; those with one key stay in theirs."""
    return np.lexsort((keys[:, 1], keys[:, 0]))


def are_new(rows: np.ndarray) -> np.ndarray:
    """Returns which rows of an array (N, M) are not equal to the row before them, bool (N,)."""
    found = np.ones(len(rows), bool)
    found[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    return found


def are_among(keys: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns which rows of `key_array` are among some others, bool (N,)."""
    both = np.concatenate([others, keys])
    order = sorting(both)
    # Of those with one key, the first is one of the others if there is one.
    firsts = np.maximum.accumulate(np.where(are_new(both[order]), np.arange(len(both)), 0))
    found = np.empty(len(both), bool)
    found[order] = order[firsts] < len(others)
    return found[len(others) :]
