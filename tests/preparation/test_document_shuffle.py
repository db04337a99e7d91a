"""The shuffle: a function of the set of documents and the seed, and a shuffle."""

import os

import numpy as np
import pytest

from algpt2.preparation.document_shuffle import DocumentShuffle, content_digest

DOCUMENTS = [f"document {number}" for number in range(500)] + ["", "twice", "twice"]


def shuffled(documents, seed=0, buckets=8, dtype="<u2"):
    with DocumentShuffle(seed, np.dtype(dtype), buckets) as shuffle:
        for document in documents:
            shuffle.add(content_digest(document.encode()), np.frombuffer(document.encode(), np.uint8).astype(np.int32))
        return [bytes(ids.astype(np.uint8)).decode() for ids in shuffle.documents()]


def test_every_document_comes_back_once_copies_included():
    assert sorted(shuffled(DOCUMENTS)) == sorted(DOCUMENTS)


def test_the_order_of_the_input_does_not_matter():
    assert shuffled(DOCUMENTS[::-1]) == shuffled(DOCUMENTS)


@pytest.mark.parametrize("buckets", [1, 3, 256])
def test_the_number_of_temporary_files_does_not_matter(buckets):
    assert shuffled(DOCUMENTS, buckets=buckets) == shuffled(DOCUMENTS)


def test_another_seed_gives_another_order():
    assert shuffled(DOCUMENTS, seed=1) != shuffled(DOCUMENTS, seed=0)


def test_the_order_has_nothing_to_do_with_the_input_s():
    places = [DOCUMENTS.index(document) for document in shuffled(DOCUMENTS)]
    assert abs(np.corrcoef(places, range(len(places)))[0, 1]) < 0.2


def test_ids_above_16_bits_survive():
    with DocumentShuffle(0, np.dtype("<i4"), buckets=2) as shuffle:
        shuffle.add(content_digest(b"x"), np.array([250_000, 1]))
        assert [ids.tolist() for ids in shuffle.documents()] == [[250_000, 1]]


def test_documents_larger_than_a_buffer_survive_and_no_file_stays(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    long = ["x" * 300_000, "y" * 200_000, "z"]
    assert sorted(shuffled(long, buckets=2)) == long
    assert os.listdir(tmp_path) == []


def test_different_texts_have_different_digests():
    assert len({content_digest(document.encode()) for document in DOCUMENTS}) == len(DOCUMENTS) - 1
