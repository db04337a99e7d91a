"""The bytes of a record are those that TensorFlow writes."""

import numpy as np
import pytest
from original_records import serialize_ids, write_serialized

from algpt2.records.record_bytes import frame_bytes, frames, id_dtype


@pytest.mark.parametrize("vocab_size", [300, 65536, 65537])
@pytest.mark.parametrize("length", [2, 60, 129, 1025, 40_000])  # lengths in front of them take one to three bytes
def test_frames_are_those_of_tensorflow(tmp_path, rng, vocab_size, length):
    ids = rng.integers(0, vocab_size, (3, length))
    write_serialized(tmp_path / "reference", [serialize_ids(row, vocab_size) for row in ids])
    found = frames(ids, id_dtype(vocab_size))
    assert found.tobytes() == (tmp_path / "reference").read_bytes()
    assert found.shape == (3, frame_bytes(length - 1, id_dtype(vocab_size)))


def test_no_records_are_no_bytes():
    assert frames(np.zeros((0, 8), np.int32), id_dtype(300)).tobytes() == b""


def test_small_vocabularies_take_two_bytes_an_id_in_little_endian_order():
    assert b"\x01\x00\x03\x02" in frames(np.array([[1, 0x0203]]), id_dtype(65536)).tobytes()
    assert (id_dtype(65536).itemsize, id_dtype(65537).itemsize) == (2, 4)
