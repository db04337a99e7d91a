"""Statistics of records: those that follow from the documents they were made of."""

import collections
import json

import numpy as np
import pytest
from command_line import call

from algpt2.config.records import RecordOptions
from algpt2.errors import UserError
from algpt2.preparation.preparation import make_tfrecords
from algpt2.records.statistics import statistics
from algpt2.text.tokenizer import Tokenizer

TEXTS = ["", "a", *(f"number {n}: " + "the cat sat on the mat \u00e9 " * (n % 9) for n in range(300))]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders of records by packing, and the tokenizer."""
    folder = tmp_path_factory.mktemp("statistics")
    tokenizer = Tokenizer.train(TEXTS, 300)
    tokenizer.save(str(folder / "tokenizer"))
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    for packing in ("stream", "best-fit"):
        options = RecordOptions(16, 3, val_fraction=0.0, packing=packing)
        make_tfrecords([str(folder / "a.jsonl")], str(folder / "tokenizer"), str(folder / packing), options)
    return folder, tokenizer


def test_lengths_of_a_stream_are_those_of_the_documents(made):
    """But for the last document, and those in the tail, which are not in a record as a whole."""
    folder, tokenizer = made
    lengths = sorted(len(tokenizer.encode(text)) for text in TEXTS)
    found = statistics(str(folder / "stream"), "train")["document_tokens"]
    assert len(TEXTS) - 5 <= found["count"] < len(TEXTS)
    assert found["mean"] == pytest.approx(np.mean(lengths), rel=0.02)
    assert abs(found["median"] - np.median(lengths)) <= 2
    assert found["largest"] == lengths[-1]
    expected = collections.Counter(length.bit_length() for length in lengths)
    names = {0: "0", 1: "1", 2: "2-3", 3: "4-7", 4: "8-15", 5: "16-31", 6: "32-63", 7: "64-127"}
    histogram = {names[bits]: count for bits, count in expected.items()}
    assert set(found["histogram"]) == set(histogram)
    assert all(0 <= histogram[name] - found["histogram"][name] <= 5 for name in histogram)


def test_tokens_are_counted_as_often_as_they_are_targets(made):
    folder, tokenizer = made
    found = statistics(str(folder / "stream"), "train")
    uses = collections.Counter(id_ for text in TEXTS for id_ in [*tokenizer.encode(text), tokenizer.eos_id])
    for token in found["frequent_tokens"]:
        assert uses[token["id"]] - 20 <= token["uses"] <= uses[token["id"]]
    shares = np.array([*uses.values()]) / sum(uses.values())
    assert found["entropy_nats"] == pytest.approx(-(shares * np.log(shares)).sum(), abs=0.02)
    assert found["unused_ids"] == pytest.approx(300 - len(uses), abs=3)


def test_records_are_counted_by_the_documents_that_they_have_parts_of(made):
    found = statistics(str(made[0] / "stream"), "train")
    counts = {int(count): records for count, records in found["documents_in_a_record"].items()}
    assert sum(counts.values()) == found["records"]
    assert min(counts) == 1
    # Each document but the first of a record begins in it, and each begins once.
    begun = sum(count * records for count, records in counts.items()) - found["records"]
    assert begun <= len(TEXTS)


def test_lengths_of_records_that_begin_with_documents_are_those_in_the_records(made):
    found = statistics(str(made[0] / "best-fit"), "train")
    assert found["document_tokens"]["largest"] <= 16
    assert found["document_tokens"]["count"] <= len(TEXTS)
    pieces = sum(int(count) * records for count, records in found["documents_in_a_record"].items())
    assert pieces == found["document_tokens"]["count"]


def test_a_split_without_records_is_refused(made):
    with pytest.raises(UserError, match="the val split of .* has none"):
        statistics(str(made[0] / "stream"), "val")


def test_the_script_draws_what_it_prints_and_only_that(made, scripts, tmp_path):
    pytest.importorskip("matplotlib")
    flags = ["--input", str(made[0] / "stream"), "--plot", str(tmp_path / "a.svg")]
    main = scripts["data_tools/inspect_tfrecords.py"]["main"]
    assert "--plot draws what --statistics counts" in call(main, flags).stderr
    assert call(main, [*flags, "--statistics"]).result == statistics(str(made[0] / "stream"), "train")
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()
    assert "must be a new file" in call(main, [*flags, "--statistics"]).stderr
