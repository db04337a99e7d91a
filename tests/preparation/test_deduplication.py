"""Copies of documents left out: the records are those of a corpus that never had them."""

import dataclasses
import json

import numpy as np
import pytest
from saved_tokenizer import save_tokenizer

from algpt2.config.records import PACKINGS, RecordOptions
from algpt2.preparation import plan
from algpt2.preparation.preparation import make_tfrecords
from algpt2.records.manifest import read_manifest

OPTIONS = RecordOptions(seq_len=16, num_shards=3, val_fraction=0.2, deduplicate=True)
UNIQUE = ["", *(f"number {n}: " + "the cat sat on the mat \u00e9 " * (n % 7) for n in range(200))]
# Each text occurs from once to four times, in both splits, among the others.
COPIES = [UNIQUE[place] for place in np.random.default_rng(0).integers(len(UNIQUE), size=300)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return save_tokenizer(tmp_path_factory, UNIQUE)


@pytest.fixture(autouse=True)
def many_pieces_and_bins(monkeypatch):
    """So that copies lie in different files, and in one bin of many."""
    monkeypatch.setattr(plan, "LEAST_PIECE_BYTES", 3000)
    monkeypatch.setattr(plan, "BIN_BYTES", 2000)


def make(tokenizer, folder, documents, options, num_workers=1):
    folder.mkdir()
    (folder / "documents.jsonl").write_text("".join(json.dumps({"text": document}) + "\n" for document in documents))
    make_tfrecords([str(folder / "documents.jsonl")], tokenizer, str(folder / "data"), options, num_workers)
    shards = {path.name: path.read_bytes() for path in (folder / "data").glob("*.tfrecord")}
    return shards, read_manifest(str(folder / "data"))


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("num_workers", [1, 2])
def test_records_of_a_corpus_with_copies_are_those_of_the_corpus_without(tmp_path, tokenizer, packing, num_workers):
    options = dataclasses.replace(OPTIONS, packing=packing)
    shards, manifest = make(tokenizer, tmp_path / "copies", UNIQUE + COPIES, options, num_workers)
    without, expected = make(tokenizer, tmp_path / "unique", UNIQUE, dataclasses.replace(options, deduplicate=False))
    assert shards == without
    for split, expected_split in ((manifest.train, expected.train), (manifest.val, expected.val)):
        assert split == dataclasses.replace(expected_split, duplicate_documents=split.duplicate_documents)
    assert manifest.train.duplicate_documents + manifest.val.duplicate_documents == len(COPIES)
    assert min(manifest.train.duplicate_documents, manifest.val.duplicate_documents) > 0


def test_copies_stay_unless_they_are_asked_to_go(tmp_path, tokenizer):
    _, manifest = make(tokenizer, tmp_path / "copies", UNIQUE + COPIES, dataclasses.replace(OPTIONS, deduplicate=False))
    assert manifest.train.documents + manifest.val.documents == len(UNIQUE) + len(COPIES)
    assert manifest.train.duplicate_documents is None


def test_without_a_held_out_part_all_copies_are_counted_too(tmp_path, tokenizer):
    _, manifest = make(tokenizer, tmp_path / "copies", UNIQUE * 3, dataclasses.replace(OPTIONS, val_fraction=0.0))
    assert manifest.train.documents == len(UNIQUE)
    assert (manifest.train.duplicate_documents, manifest.val.duplicate_documents) == (2 * len(UNIQUE), 0)
