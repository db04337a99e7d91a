"""The bytes of a record are those that TensorFlow writes."""

import numpy as np
import pytest
from original_records import serialize_ids, write_serialized

from algpt2.records.record_bytes import frame, frame_bytes, frame_sizes, frames, id_dtype


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


def test_the_frame_of_a_document_is_that_of_a_record_with_its_ids():
    for length in (1, 2, 40, 64, 127, 128, 1000, 8191, 70_000):
        ids = np.arange(length) % 1000
        framed = frame(ids.astype(np.dtype("<u2")).tobytes())
        assert framed == frames(ids[None], np.dtype("<u2")).tobytes()


def test_sizes_of_frames_are_those_of_the_frames():
    sizes = np.array([*range(1, 400), *range(16_300, 16_400), *range(2_097_100, 2_097_160)])
    assert frame_sizes(sizes).tolist() == [len(frame(bytes(size))) for size in sizes.tolist()]
