"""Records that begin with a document: whole documents where they fit, and every lost token counted."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from algpt2.config.records import RecordOptions
from algpt2.preparation.best_fit_packing import BestFitPacker
from algpt2.preparation.preparation import make_tfrecords
from algpt2.records.record_set import open_record_set
from algpt2.records.tfrecords import read_records
from algpt2.text.tokenizer import Tokenizer

EOS = 0


def packed(documents, seq_len, waiting):
    packer = BestFitPacker(seq_len, EOS, waiting)
    records = [record.tolist() for document in documents for record in packer.add(document)]
    return packer, records + [record.tolist() for record in packer.finish()]


def texts_of(record):
    """The documents of a record, cropped ones as they are; a last EOS alone is none."""
    texts = []
    for id_ in record:
        texts += [[]] if id_ == EOS else []
        texts[-1] += [] if id_ == EOS else [id_]
    return texts


@given(
    lengths=st.lists(st.integers(0, 14), max_size=40), seq_len=st.integers(1, 9), waiting=st.sampled_from([1, 3, 100])
)
def test_every_token_is_in_one_record_or_counted_as_lost(lengths, seq_len, waiting):
    """Each document has ids of its own, so that any piece tells whose it is."""
    documents = [[1 + 100 * number + place for place in range(length)] for number, length in enumerate(lengths)]
    packer, records = packed(documents, seq_len, waiting)
    assert {len(record) for record in records} <= {seq_len + 1}
    assert all(record[0] == EOS for record in records)
    pieces = [text for record in records for text in texts_of(record) if text]
    owners = [text[0] // 100 for text in pieces]
    assert len(set(owners)) == len(owners), "no document is in two pieces"
    assert all(text == documents[owner][: len(text)] for text, owner in zip(pieces, owners, strict=True))
    assert packer.lost_tokens == sum(lengths) - sum(map(len, pieces))


@given(lengths=st.lists(st.integers(1, 6), min_size=30, max_size=60))
def test_at_most_one_document_of_a_record_is_cropped_and_only_where_none_fitted(lengths):
    documents = [[1 + 100 * number + place for place in range(length)] for number, length in enumerate(lengths)]
    _, records = packed(documents, 8, 10)
    for record in records:
        texts = [text for text in texts_of(record) if text]
        cropped = [len(text) < len(documents[text[0] // 100]) for text in texts]
        assert not any(cropped[:-1])


def test_the_longest_document_that_fits_comes_first_and_the_shortest_is_cropped():
    _, records = packed([[1] * 3, [2] * 5, [3] * 4, [4] * 9], 9, 4)
    assert records == [[0, *[4] * 9], [0, *[2] * 5, 0, *[1] * 3]]
    _, records = packed([[1] * 5, [2] * 4], 7, 2)
    assert records == [[0, 1, 1, 1, 1, 1, 0, 2]]


def test_records_do_not_depend_on_when_they_are_asked_for():
    documents = [[1 + number] * (number % 7) for number in range(200)]
    packer = BestFitPacker(8, EOS, 16)
    one_by_one = [record.tolist() for document in documents for record in packer.add(document)]
    assert len(one_by_one) > 50
    assert one_by_one == packed(documents, 8, 16)[1][: len(one_by_one)]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder of best-fit records, and what the command printed."""
    folder = tmp_path_factory.mktemp("best_fit")
    documents = [f"number {n}: " + "the cat sat on the mat \u00e9 " * (n % 5) for n in range(200)]
    Tokenizer.train(documents, 300).save(str(folder / "tokenizer"))
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": document}) + "\n" for document in documents))
    options = RecordOptions(64, 3, val_fraction=0.2, packing="best-fit")
    arguments = ([str(folder / "a.jsonl")], str(folder / "tokenizer"))
    return make_tfrecords(*arguments, str(folder / "one"), options), arguments, folder, options


def test_the_records_of_a_folder_begin_with_documents_and_the_manifest_counts_the_losses(made):
    result, _, folder, _ = made
    eos_id = result["eos_id"]
    for split in ("train", "val"):
        record_set = open_record_set([str(folder / "one")], split)
        records = np.concatenate([[*read_records(file, 64, 300)] for file in record_set.files])
        assert (records[:, 0] == eos_id).all()
        told = result[split]
        assert (told["records"], told["false_eos"]) == (len(records), 0)
        text_tokens = told["input_tokens"] - told["documents"]
        assert (records != eos_id).sum() == text_tokens - told["lost_tokens"]
        assert 0 < told["lost_tokens"] / text_tokens < 0.3
        (loss,) = record_set.losses
        assert f"each begin with a document: {told['lost_tokens'] / text_tokens:.1%} of the text's tokens" in loss


def test_several_processes_write_the_same_records(made, tmp_path):
    _, arguments, folder, options = made
    make_tfrecords(*arguments, str(tmp_path / "two"), options, num_workers=2)
    for file in (folder / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
    stream = make_tfrecords(*arguments, str(tmp_path / "stream"), dataclasses.replace(options, packing="stream"))
    assert stream["train"]["lost_tokens"] == 0
