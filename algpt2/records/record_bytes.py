"""The bytes of a shard: TFRecord frames around `tf.train.Example`s of one bytes feature, made without TensorFlow.

Packed records of a folder have one length, so what stands in front of the ids is the same in each of them, and a block
of records is one array that is filled column by column. Documents differ in length and are framed one by one.
TensorFlow reads what this writes; importing it takes seconds, and its Python objects take longer for a record than the
record's tokens took to be encoded.

The frame is that of https://www.tensorflow.org/tutorials/load_data/tfrecord: the length (uint64), its masked CRC32C
(uint32), the data, and the data's masked CRC32C, all little-endian. The data is a protocol buffer.
"""

import functools
import struct

import google_crc32c
import numpy as np

IDS_FEATURE = "ids"
WEIGHTS_FEATURE = "weights"
LARGEST_UINT16_VOCAB_SIZE = 1 << 16
LENGTH_BYTES = 8
CRC_BYTES = 4
_MASK_DELTA = 0xA282EAD8
_LENGTH_DELIMITED = 2


def id_dtype(vocab_size: int) -> np.dtype:
    """Returns how ids are stored: little-endian uint16 for up to 65,536 of them, else int32."""
    return np.dtype("<u2" if vocab_size <= LARGEST_UINT16_VOCAB_SIZE else "<i4")


def frames(ids: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Returns the frames of records, one a row: uint8 (N, frame size).

    Args:
      ids: integers (N, seq_len + 1), which fit `dtype`.
      dtype: as which they are stored, little-endian.
    """
    stored = np.ascontiguousarray(ids, dtype=dtype).view(np.uint8)
    head = _example_head(stored.shape[1])
    example = LENGTH_BYTES + CRC_BYTES
    end = example + len(head) + stored.shape[1]
    rows = np.empty((len(ids), end + CRC_BYTES), dtype=np.uint8)
    rows[:, :example] = np.frombuffer(_frame_head(end - example), np.uint8)
    rows[:, example : example + len(head)] = np.frombuffer(head, np.uint8)
    rows[:, example + len(head) : end] = stored
    checksums = [_masked_crc32c(row.tobytes()) for row in rows[:, example:end]]
    rows[:, end:] = np.array(checksums, dtype="<u4").view(np.uint8).reshape(-1, CRC_BYTES)
    return rows


def frame_bytes(seq_len: int, dtype: np.dtype) -> int:
    """Returns how many bytes a record takes in a shard, so that record number k begins at k times as many."""
    stored = (seq_len + 1) * np.dtype(dtype).itemsize
    return LENGTH_BYTES + CRC_BYTES + len(_example_head(stored)) + stored + CRC_BYTES


def frame(stored: bytes) -> bytes:
    """Returns the frame of one record of any length.

    Args:
      stored: its ids, little-endian.
    """
    return _framed(_example_head(len(stored)) + stored)


def _framed(data: bytes) -> bytes:
    return _frame_head(len(data)) + data + struct.pack("<I", _masked_crc32c(data))


def weighted_frame(ids: bytes, weights: bytes) -> bytes:
    """Returns the frame of one record of ids, as they are stored, and the weights of its targets, a byte each."""
    entries = ((IDS_FEATURE, ids), (WEIGHTS_FEATURE, weights))
    features = b"".join(_entry_head(name, len(value)) + value for name, value in entries)
    return _framed(_field(1, len(features)) + features)


def frame_sizes(stored_bytes: np.ndarray) -> np.ndarray:
    """Returns how many bytes the frames of records take whose ids take so many, int64 (N,)."""
    size = stored_bytes.astype(np.int64)
    size = size + _field_head_bytes(size)  # the value of a bytes list
    size = size + _field_head_bytes(size)  # the feature
    size = size + _field_head_bytes(size) + len(_field(1, len(IDS_FEATURE)) + IDS_FEATURE.encode())  # a map's entry
    size = size + _field_head_bytes(size)  # the features
    size = size + _field_head_bytes(size)  # the example
    return LENGTH_BYTES + CRC_BYTES + size + CRC_BYTES


def _field_head_bytes(content_bytes: np.ndarray) -> np.ndarray:
    """Returns how long `_field` is for each size of a content below 2^63."""
    largest = int(content_bytes.max(initial=0))
    longer = (content_bytes >= 1 << 7 * digits for digits in range(1, 9) if largest >> 7 * digits)
    return 2 + sum(longer, np.zeros(content_bytes.shape, np.int64))


@functools.lru_cache(maxsize=1 << 14)
def _example_head(stored_bytes: int) -> bytes:
    """Returns what stands in front of the ids in a serialized `tf.train.Example` of them."""
    entry = _entry_head(IDS_FEATURE, stored_bytes)
    return _field(1, len(entry) + stored_bytes) + entry  # the features


@functools.lru_cache(maxsize=1 << 14)
def _entry_head(name: str, value_bytes: int) -> bytes:
    """Returns what stands in front of the one value of a bytes feature in an entry of the map of features."""

    def within(field: int, head: bytes) -> bytes:
        return _field(field, len(head) + value_bytes) + head

    bytes_list = within(1, b"")  # its one value
    feature = within(1, bytes_list)
    entry = _field(1, len(name)) + name.encode() + within(2, feature)  # of a map: key and value
    return within(1, entry)


def _field(number: int, content_bytes: int) -> bytes:
    """Returns the tag of a length-delimited field and the length of its content, a varint."""
    varint = bytearray([number << 3 | _LENGTH_DELIMITED])
    while content_bytes > 0x7F:
        varint.append(content_bytes & 0x7F | 0x80)
        content_bytes >>= 7
    return bytes([*varint, content_bytes])


@functools.lru_cache(maxsize=1 << 14)
def _frame_head(data_bytes: int) -> bytes:
    length = struct.pack("<Q", data_bytes)
    return length + struct.pack("<I", _masked_crc32c(length))


def _masked_crc32c(data: bytes) -> int:
    """Returns the checksum as TFRecord stores it: rotated and shifted, since data may hold checksums itself."""
    checksum = google_crc32c.value(data)
    return ((checksum >> 15 | checksum << 17) + _MASK_DELTA) & 0xFFFFFFFF
