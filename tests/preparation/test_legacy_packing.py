"""The packing of 2020: the same records as the original's, the same losses, and their counts."""

import json
from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from algpt2.config.records import RecordOptions
from algpt2.preparation.legacy_packing import LegacyPacker

EOS = 99
DOCUMENTS = st.lists(st.lists(st.integers(0, EOS - 1), max_size=30), max_size=14)


class Place(NamedTuple):
    """An id of a document: which document, which of its ids."""

    document: int
    index: int


def original(documents, seq_len):
    """The original's rule on any tokens, with its own meaning of `seq_len`, as its report and its program give it.

    Returns records of `seq_len` tokens. EOS is the string 'eos', so nothing of the packer under test is shared.
    """
    records, pool = [], []

    def flush(tokens):
        for number in range(len(tokens) // (seq_len - 1)):
            records.append(["eos", *tokens[number * (seq_len - 1) : (number + 1) * (seq_len - 1)]])

    for tokens in documents:
        if len(tokens) >= seq_len:
            flush(tokens)
            continue
        pool += ["eos", *tokens] if pool else tokens
        if len(pool) >= seq_len:
            flush(pool)
            pool = []
    return records


def is_false_eos(record):
    """Whether a record begins in mid-document."""
    return isinstance(record[1], Place) and record[1].index > 0


@given(DOCUMENTS, st.integers(1, 12))
@example([], 4)
@example([[], [], [1]], 1)
@example([[1, 2, 3, 4]], 4)
@example([[1, 2, 3, 4, 5]], 4)
@example([[1, 2, 3], [4, 5, 6, 7]], 4)
@example([[1, 2, 3, 4], [5, 6, 7, 8]], 4)
def test_records_and_losses_are_those_of_the_originals_rule(documents, seq_len):
    places = [[Place(number, index) for index in range(len(ids))] for number, ids in enumerate(documents)]
    expected = original(places, seq_len + 1)
    packer = LegacyPacker(seq_len, EOS)
    records = [record for ids in documents for record in packer.add(ids)]
    spelt = [[EOS if token == "eos" else documents[token.document][token.index] for token in one] for one in expected]
    assert [record.tolist() for record in records] == spelt
    assert all(record.dtype == np.int32 for record in records)
    kept = Counter(token for record in expected for token in record if token != "eos")
    assert set(kept.values()) <= {1}
    assert packer.lost_tokens == sum(map(len, documents)) - len(kept)
    assert packer.false_eos == sum(map(is_false_eos, expected))


def test_an_example_by_hand():
    packer = LegacyPacker(4, EOS)
    documents = {
        "long: its ninth id is lost, its second record begins with a false EOS": [1, 2, 3, 4, 5, 6, 7, 8, 9],
        "short: it waits": [11, 12],
        "as long as a record: it joins the pool, whose remainder, 22 to 24, is lost": [21, 22, 23, 24],
        "it waits in a new pool": [31, 32, 33, 34],
        "the pool gives two records, the second of which has two EOS": [41, 42, 43, 44],
        "the last pool is never full": [51, 52],
    }
    assert [record.tolist() for document in documents.values() for record in packer.add(document)] == [
        [EOS, 1, 2, 3, 4],
        [EOS, 5, 6, 7, 8],
        [EOS, 11, 12, EOS, 21],
        [EOS, 31, 32, 33, 34],
        [EOS, EOS, 41, 42, 43],
    ]
    assert (packer.lost_tokens, packer.false_eos) == (1 + 3 + 1 + 2, 1)


def test_documents_as_long_as_openwebtexts_lose_about_a_fifth():
    """Of those, 67% are shorter than 1024 tokens, 35% than 512 and 10% than 256, and a record had 1023 of them."""
    rng = np.random.default_rng(0)
    lengths = np.concatenate(
        [rng.integers(low, high, size) for low, high, size in ((64, 256, 200), (256, 512, 500), (512, 1024, 640))]
    )
    lengths = np.concatenate([lengths, 1024 + rng.exponential(900, 660).astype(int)])
    packer = LegacyPacker(1023, EOS)
    records = sum(len(packer.add(np.zeros(n, np.int32))) for n in rng.permutation(lengths))
    assert 0.17 < packer.lost_tokens / lengths.sum() < 0.25
    assert records > 0


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Records of both packings, made of the same documents: {packing: (folder, what the command printed)}."""
    from algpt2.preparation.preparation import make_tfrecords
    from algpt2.text.tokenizer import Tokenizer

    folder = tmp_path_factory.mktemp("packings")
    documents = [f"number {n}: " + "the cat sat on the mat \u00e9 " * (n % 5) for n in range(200)]
    Tokenizer.train(documents, 300).save(str(folder / "tokenizer"))
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": document}) + "\n" for document in documents))
    results = {}
    for packing in ("stream", "legacy"):
        output, options = str(folder / packing), RecordOptions(16, 3, val_fraction=0.2, packing=packing)
        results[packing] = output, make_tfrecords([str(folder / "a.jsonl")], str(folder / "tokenizer"), output, options)
    return results


def test_a_folder_of_legacy_records_holds_the_originals_records_in_the_order_of_the_documents(made):
    from algpt2.records.record_set import open_record_set
    from algpt2.records.tfrecords import read_records

    streams = {}
    for packing, (folder, _) in made.items():
        files = open_record_set([folder], "train").files
        streams[packing] = [record.tolist() for file in files for record in read_records(file, 16, 300)]
    stream = streams["stream"][0][:1] + [id_ for record in streams["stream"] for id_ in record[1:]]
    documents, eos = [], stream[0]
    for id_ in stream:
        documents += [[]] if id_ == eos else []
        documents[-1] += [] if id_ == eos else [id_]
    expected = [[eos if token == "eos" else token for token in one] for one in original(documents, 17)]
    assert 0 <= len(streams["legacy"]) - len(expected) <= 1, "the last documents are in the stream's tail"
    assert streams["legacy"][: len(expected)] == expected


def test_the_manifest_of_legacy_records_counts_what_is_lost_and_inspection_says_it(made):
    from algpt2.records.inspection import inspect
    from algpt2.records.verification import verify

    (_, stream), (folder, legacy) = made["stream"], made["legacy"]
    assert (stream["packing"], legacy["packing"]) == ("stream", "legacy")
    for split in ("train", "val"):
        assert (stream[split]["lost_tokens"], stream[split]["false_eos"]) == (0, 0)
        told = legacy[split]
        assert told["input_tokens"] == stream[split]["input_tokens"]
        assert told["target_tokens"] == told["records"] * 16
        assert told["target_tokens"] + told["tail_tokens"] == told["input_tokens"]
        texts, documents = told["input_tokens"] - told["documents"], told["documents"]
        predicted_texts = texts - told["lost_tokens"]
        assert 0.1 < told["lost_tokens"] / texts < 0.5
        assert 0 <= told["target_tokens"] - predicted_texts < documents, "the rest are EOS between short documents"
        assert 0 < told["false_eos"] < told["records"]
    assert {key: inspect(folder, "train", 0)[key] for key in ("packing", "train", "val")} == {
        key: legacy[key] for key in ("packing", "train", "val")
    }
    assert verify(folder)["train"]["lost_tokens"] == legacy["train"]["lost_tokens"]


def test_whoever_opens_legacy_records_is_told_what_they_lost(made):
    from algpt2.records.record_set import open_record_set

    (stream, _), (folder, result) = made["stream"], made["legacy"]
    assert open_record_set([stream], "train").losses == ()
    (loss,) = open_record_set([folder], "val").losses
    val = result["val"]
    percent = 100 * val["lost_tokens"] / (val["input_tokens"] - val["documents"])
    assert f"the val records in {folder} are packed as in 2020: {percent:.1f}% of the text's tokens" in loss
    assert f"and {val['false_eos']} of {val['records']} begin with a false end of text" in loss
