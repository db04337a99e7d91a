"""Sorted files of documents, and the stream that they are parts of."""

import numpy as np
import pytest

from algpt2.preparation.document_keys import content_digest, key_array, order_key, sorting
from algpt2.preparation.packing import record_blocks
from algpt2.preparation.sorted_documents import Documents, Layout, MergedFiles, SortedFile, write_sorted
from algpt2.preparation.token_stream import TokenStream

EOS = 299
TEXTS = [f"document {number}".encode() for number in range(60)] + [b"same", b"same"]
KEYS = [order_key(content_digest(text), seed=3) for text in TEXTS]


@pytest.fixture
def ids_of_texts(rng):
    ids = [rng.integers(0, EOS, size=size).tolist() for size in rng.integers(0, 9, len(TEXTS))]
    return [*ids[:-1], ids[-2]]  # the same text has the same ids


def documents(keys, ids):
    lengths = np.array([len(one) for one in ids], np.uint32)
    return Documents(key_array(keys), lengths, np.array([id_ for one in ids for id_ in one], np.uint16))


def written(folder, parts, layout):
    """Files with the documents of some parts each, which are handed over in two halves."""
    files = []
    for number, (keys, ids) in enumerate(parts):
        half = len(keys) // 2
        halves = [documents(keys[:half], ids[:half]), documents(keys[half:], ids[half:])]
        write_sorted(str(folder / f"{number}.documents"), halves, layout)
        files.append(SortedFile(str(folder / f"{number}.documents"), layout))
    return files


def expected_stream(ids_of_texts):
    ordered = sorted(range(len(TEXTS)), key=KEYS.__getitem__)
    return [id_ for place in ordered for id_ in (EOS, *ids_of_texts[place])]


def parts_of(ids_of_texts, sizes):
    ends = np.cumsum(sizes)
    return [(KEYS[end - size : end], ids_of_texts[end - size : end]) for end, size in zip(ends, sizes, strict=True)]


def stream_of(files):
    merged = MergedFiles(files)
    return TokenStream(merged, merged.stored_sizes(), EOS)


def test_keys_are_sorted_as_their_bytes_are():
    assert [KEYS[place] for place in sorting(key_array(KEYS))] == sorted(KEYS)


@pytest.mark.parametrize("bin_bits", [0, 3, 12])
@pytest.mark.parametrize("sizes", [[62], [30, 0, 31, 1]])
def test_every_part_of_the_stream_is_the_same_however_documents_lie_in_files(tmp_path, ids_of_texts, bin_bits, sizes):
    expected = expected_stream(ids_of_texts)
    stream = stream_of(written(tmp_path, parts_of(ids_of_texts, sizes), Layout(bin_bits, np.dtype("<u2"))))
    assert stream.length == len(expected)
    for first, end in ((0, len(expected)), (0, 1), (17, 58), (len(expected) - 1, len(expected)), (5, 5)):
        found = [int(id_) for piece in stream.read(first, end) for id_ in piece]
        assert found == expected[first:end], (first, end)


def test_documents_with_ids_above_16_bits_and_of_any_length_survive(tmp_path):
    long = [[250_000] * 300_000, [1], []]
    documents = Documents(key_array(KEYS[:3]), np.array([300_000, 1, 0], np.uint32), np.array(sum(long, []), np.int32))
    write_sorted(str(tmp_path / "a"), [documents], Layout(1, np.dtype("<i4")))
    file = SortedFile(str(tmp_path / "a"), Layout(1, np.dtype("<i4")))
    ids = np.concatenate([file.read_bin(number).ids for number in range(2)])
    assert np.count_nonzero(ids == 250_000) == 300_000
    assert len(ids) == 300_001


def test_another_seed_gives_another_order():
    others = [order_key(content_digest(text), seed=4) for text in TEXTS]
    assert sorting(key_array(others)).tolist() != sorting(key_array(KEYS)).tolist()


def test_the_order_has_nothing_to_do_with_the_input_s():
    keys = [order_key(content_digest(f"document {number}".encode()), seed=0) for number in range(500)]
    assert abs(np.corrcoef(sorting(key_array(keys)), range(500))[0, 1]) < 0.2


def test_different_texts_have_different_digests():
    assert len({content_digest(text) for text in TEXTS}) == len(TEXTS) - 1


def test_records_from_the_middle_of_the_stream_are_those_of_the_whole(tmp_path, ids_of_texts):
    stream = stream_of(written(tmp_path, parts_of(ids_of_texts, [40, 22]), Layout(4, np.dtype("<u2"))))
    whole = np.concatenate([*record_blocks(stream.read(0, stream.length), 5)])
    part = np.concatenate([*record_blocks(stream.read(3 * 5, 9 * 5 + 1), 5)])
    np.testing.assert_array_equal(part, whole[3:9])
