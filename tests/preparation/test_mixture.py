"""Inputs with weights: which documents are taken how often, whatever does the work."""

import dataclasses
import json
from collections import Counter

import numpy as np
import pytest

from algpt2.config.records import RecordOptions
from algpt2.errors import UserError
from algpt2.preparation import plan, work
from algpt2.preparation.mixture import Input, inputs_of, weighted_inputs
from algpt2.preparation.plan import Part
from algpt2.preparation.preparation import encode_part, make_tfrecords
from algpt2.records.input_counts import MixtureInput
from algpt2.records.manifest import read_manifest
from algpt2.records.record_bytes import frame_bytes
from algpt2.text.tokenizer import Tokenizer

# Records of one target lose nothing of the stream, so the documents can be read back from them.
OPTIONS = RecordOptions(seq_len=1, num_shards=3, val_fraction=0.2)
BOOKS = [f"book {n}: " + "the cat " * (n % 5) for n in range(60)]
PAGES = [f"page {n}: " + "the mat " * (n % 4) for n in range(120)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
    Tokenizer.train(BOOKS + PAGES, 280).save(str(folder))
    return str(folder)


@pytest.fixture(autouse=True)
def many_pieces_and_bins(monkeypatch):
    monkeypatch.setattr(plan, "LEAST_PIECE_BYTES", 1000)
    monkeypatch.setattr(plan, "BIN_BYTES", 500)


def written(path, texts, weight=None):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return Input((str(path),), weight)


def mixed(folder, books, pages, book_texts=BOOKS, page_texts=PAGES):
    """The two inputs with weights, as files in a folder."""
    return [written(folder / "a.jsonl", book_texts, books), written(folder / "b.jsonl", page_texts, pages)]


def documents_of(folder, split):
    tokenizer, manifest = Tokenizer.load(str(folder)), read_manifest(str(folder))
    data = b"".join((folder / shard.name).read_bytes() for shard in getattr(manifest, split).shards)
    frames = np.frombuffer(data, np.uint8).reshape(-1, frame_bytes(1, np.dtype("<u2")))
    records = np.ascontiguousarray(frames[:, -8:-4]).view("<u2")  # a checksum of four bytes stands behind the ids
    return tokenizer.decode([*records[:, 0], records[-1, 1]]).split("<|endoftext|>")[1:]


def taken(tokenizer, folder, inputs, options=OPTIONS):
    """How often each document is in both splits."""
    make_tfrecords(inputs, tokenizer, str(folder), options)
    return Counter(documents_of(folder, "train") + documents_of(folder, "val"))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def shards(folder):
    return {name: data for name, data in contents(folder).items() if name.endswith(".tfrecord")}


def test_each_document_is_taken_as_often_as_its_weight_says_and_the_manifest_counts_them(tmp_path, tokenizer):
    inputs = mixed(tmp_path, 2, 0.5)
    found = taken(tokenizer, tmp_path / "data", inputs)
    assert all(found[book] == 2 for book in BOOKS)
    pages = sum(found[page] for page in PAGES)
    assert set(found.values()) == {1, 2}
    assert 45 <= pages <= 75
    assert read_manifest(str(tmp_path / "data")).mixture == (
        MixtureInput(inputs[0].paths, 2.0, 60, 120),
        MixtureInput(inputs[1].paths, 0.5, 120, pages),
    )


def test_a_half_of_the_documents_is_taken_a_third_time_at_two_and_a_half(tmp_path, tokenizer):
    found = taken(tokenizer, tmp_path / "data", mixed(tmp_path, 2.5, 0.25))
    assert {found[book] for book in BOOKS} == {2, 3}
    assert 20 <= sum(found[book] == 3 for book in BOOKS) <= 40
    more = taken(tokenizer, tmp_path / "more", mixed(tmp_path, 2.75, 0.5))
    assert all(found[text] <= more[text] for text in BOOKS + PAGES), "what a weight takes, a larger one takes too"


def test_copies_stand_apart_and_on_one_side_of_the_split(tmp_path, tokenizer):
    make_tfrecords(mixed(tmp_path, 6, 3), tokenizer, str(tmp_path / "data"), OPTIONS)
    train, val = documents_of(tmp_path / "data", "train"), documents_of(tmp_path / "data", "val")
    assert not set(train) & set(val)
    assert set(train) | set(val) == set(BOOKS + PAGES)
    # Of 576 documents in random order, a neighbour is a copy once or twice by chance.
    assert sum(one == next_one for one, next_one in zip(train, train[1:], strict=False)) < 15


def test_another_seed_samples_others(tmp_path, tokenizer):
    inputs = mixed(tmp_path, 0.5, 0.5)
    one = taken(tokenizer, tmp_path / "one", inputs)
    assert one != taken(tokenizer, tmp_path / "two", inputs, dataclasses.replace(OPTIONS, seed=1))


def test_weights_of_one_change_no_record(tmp_path, tokenizer):
    inputs = mixed(tmp_path, 1, 1)
    make_tfrecords(inputs, tokenizer, str(tmp_path / "ones"), OPTIONS)
    make_tfrecords([path for one in inputs for path in one.paths], tokenizer, str(tmp_path / "none"), OPTIONS)
    assert shards(tmp_path / "ones") == shards(tmp_path / "none")
    assert read_manifest(str(tmp_path / "none")).mixture is None


@pytest.mark.parametrize("weights", [(2.5, 0.5), (0.5, 2.5)])
def test_weights_apply_to_what_is_left_without_duplicates(tmp_path, tokenizer, weights):
    """A text of both inputs has the weight of the first, also where that takes it less often than the second would."""
    books, pages = [*BOOKS[:30], *BOOKS], [*BOOKS[20:50], *PAGES, *PAGES[:9]]
    deduplicating = dataclasses.replace(OPTIONS, deduplicate=True)
    make_tfrecords(mixed(tmp_path, *weights, books, pages), tokenizer, str(tmp_path / "copies"), deduplicating)
    make_tfrecords(mixed(tmp_path, *weights), tokenizer, str(tmp_path / "unique"), OPTIONS)
    assert shards(tmp_path / "copies") == shards(tmp_path / "unique")
    found, expected = (read_manifest(str(tmp_path / name)) for name in ("copies", "unique"))
    assert [one.taken_documents for one in found.mixture] == [one.taken_documents for one in expected.mixture]
    assert [one.documents for one in found.mixture] == [90, 159]
    assert found.train.duplicate_documents + found.val.duplicate_documents == 30 + 30 + 9
    for one, other in ((found.train, expected.train), (found.val, expected.val)):
        assert dataclasses.replace(one, duplicate_documents=None) == other


@pytest.mark.parametrize("deduplicate", [False, True])
def test_processes_parts_and_a_stop_in_between_change_no_byte(tmp_path, tokenizer, monkeypatch, deduplicate):
    options = dataclasses.replace(OPTIONS, deduplicate=deduplicate)
    inputs = mixed(tmp_path, 1.5, 0.5, page_texts=PAGES + BOOKS[:10])
    make_tfrecords(inputs, tokenizer, str(tmp_path / "one"), options)
    make_tfrecords(inputs, tokenizer, str(tmp_path / "two"), options, num_workers=2)
    for index in (2, 0, 1):
        encode_part(inputs, tokenizer, str(tmp_path / "parts"), options, 1, Part(index, 3))
    make_tfrecords(inputs, tokenizer, str(tmp_path / "parts"), options, merge=True)
    with monkeypatch.context() as stopping:
        stopping.setattr(work, "write_shard", None)
        with pytest.raises(TypeError):
            make_tfrecords(inputs, tokenizer, str(tmp_path / "stopped"), options)
    make_tfrecords(inputs, tokenizer, str(tmp_path / "stopped"), options)
    for name in ("two", "parts", "stopped"):
        assert contents(tmp_path / name) == contents(tmp_path / "one"), name


def test_work_with_other_weights_is_not_gone_on_with(tmp_path, tokenizer):
    encode_part(mixed(tmp_path, 1.5, 0.5), tokenizer, str(tmp_path / "data"), OPTIONS, 1, Part(0, 3))
    with pytest.raises(UserError, match="another command, whose inputs differ"):
        make_tfrecords(mixed(tmp_path, 1.5, 0.75), tokenizer, str(tmp_path / "data"), OPTIONS)


def test_weights_that_take_nothing_are_named(tmp_path, tokenizer):
    with pytest.raises(UserError, match="of 180 none is: give larger weights"):
        make_tfrecords(mixed(tmp_path, 1e-9, 1e-300), tokenizer, str(tmp_path / "data"), OPTIONS)


@pytest.mark.parametrize("weight", [0, -1, float("nan"), float("inf"), 1001])
def test_what_is_no_weight_is_refused(weight):
    with pytest.raises(UserError, match="weight must be above 0 and at most 1000, received"):
        Input(("a",), weight)


def test_each_input_has_a_weight_or_none_has():
    assert weighted_inputs([["a", "b"], ["c"]]) == (Input(("a", "b", "c")),)
    assert weighted_inputs([["a", "b"], ["c"]], [2, 0.5]) == (Input(("a", "b"), 2), Input(("c",), 0.5))
    with pytest.raises(UserError, match="once for each --input or not at all, received 1 for 2"):
        weighted_inputs([["a"], ["b"]], [2])
    with pytest.raises(UserError, match="every input or for none"):
        inputs_of(["a", Input(("b",), 2)])
