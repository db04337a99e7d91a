"""Training on a sample: of bounded size, and the same for the same documents, however they lie in files."""

import gzip
import json
import random

import pytest

from algpt2.errors import UserError
from algpt2.text.documents import Document, Keys
from algpt2.text.sampling import BUCKETS, buckets_within, in_buckets
from algpt2.text.separator import Separator
from algpt2.text.tokenizer import Tokenizer
from algpt2.text.tokenizer_training import TextOptions, train_tokenizer

TEXTS = [f"document {number} " + "the cat sat \u00e9 " * (number % 9) for number in range(400)]
TOTAL = sum(len(text.encode()) for text in TEXTS)


def documents(texts=TEXTS):
    return [Document(text, text.encode(), "a file") for text in texts]


def write_lines(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


@pytest.mark.parametrize("max_bytes", [500, 5_000, TOTAL - 1])
def test_a_sample_is_as_large_as_it_may_be(max_bytes):
    sample = [*in_buckets(documents(), buckets_within(documents(), max_bytes))]
    assert max_bytes - 300 < sum(len(one.utf8) for one in sample) <= max_bytes


def test_a_sample_is_the_same_in_any_order_and_part_of_every_larger_one():
    shuffled = random.Random(0).sample(TEXTS, len(TEXTS))
    small, large = (buckets_within(documents(), size) for size in (3_000, 9_000))
    assert buckets_within(documents(shuffled), 3_000) == small
    in_small, in_large = ({one.text for one in in_buckets(documents(), count)} for count in (small, large))
    assert in_small < in_large < set(TEXTS)
    assert buckets_within(documents(), TOTAL) == BUCKETS


def test_a_sample_is_spread_over_the_documents():
    """Catches the first documents instead of a sample."""
    places = [TEXTS.index(one.text) for one in in_buckets(documents(), buckets_within(documents(), TOTAL // 2))]
    assert 120 < sum(places) / len(places) < 280


def test_a_tokenizer_of_a_sample_does_not_depend_on_the_files_of_the_documents(tmp_path):
    shuffled = random.Random(1).sample(TEXTS, len(TEXTS))
    one = [write_lines(tmp_path / "a.jsonl", TEXTS)]
    two = [write_lines(tmp_path / "b.jsonl", shuffled[:99]), write_lines(tmp_path / "c.jsonl", shuffled[99:])]
    results = [
        train_tokenizer(inputs, 290, str(tmp_path / name), TextOptions(max_bytes=4_000))
        for inputs, name in ((one, "1"), (two, "2"))
    ]
    assert results[0] == results[1]
    assert results[0]["bytes"] <= 4_000 < TOTAL
    assert results[0]["documents"] < len(TEXTS)


def test_compressed_text_is_measured_as_text(tmp_path):
    """Catches the size of a file taken for that of its text."""
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(write_read(tmp_path, TEXTS)))
    result = train_tokenizer(
        [str(tmp_path / "a.jsonl.gz")], 290, str(tmp_path / "out"), TextOptions(max_bytes=TOTAL // 2)
    )
    assert (tmp_path / "a.jsonl.gz").stat().st_size < TOTAL // 2
    assert 0 < result["bytes"] <= TOTAL // 2


def write_read(folder, texts):
    with open(write_lines(folder / "lines.jsonl", texts), "rb") as file:
        return file.read()


def test_documents_of_plain_text_are_parted_by_the_separator(tmp_path):
    (tmp_path / "a.txt").write_text("<|endoftext|>".join(TEXTS))
    keys = Keys(separator=Separator("<|endoftext|>"))
    assert train_tokenizer([str(tmp_path / "a.txt")], 290, str(tmp_path / "out"), TextOptions(keys))[
        "documents"
    ] == len(TEXTS)


@pytest.mark.parametrize(("max_bytes", "sentence"), [(0, "max_bytes must be at least 1"), (3, "the sample has none")])
def test_a_sample_that_can_hold_nothing_is_refused(tmp_path, max_bytes, sentence):
    inputs = [write_lines(tmp_path / "a.jsonl", TEXTS)]
    with pytest.raises(UserError, match=sentence):
        train_tokenizer(inputs, 290, str(tmp_path / "out"), TextOptions(max_bytes=max_bytes))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("max_bytes", [TOTAL // 2, 2 * TOTAL])
def test_input_that_is_no_document_is_left_out_on_request_and_counted_once(tmp_path, max_bytes):
    """Also where the documents are read twice."""
    lines = [json.dumps({"text": text}) for text in TEXTS]
    (tmp_path / "a.jsonl").write_text("\n".join(["{", *lines[:200], '{"text": 3}', *lines[200:], "[]"]))
    inputs, output = [str(tmp_path / "a.jsonl")], str(tmp_path / "out")
    with pytest.raises(UserError, match="every line must be a JSON object"):
        train_tokenizer(inputs, 290, output, TextOptions(max_bytes=max_bytes))
    result = train_tokenizer(inputs, 290, output, TextOptions(max_bytes=max_bytes, on_error="skip"))
    assert result["skipped"] == {"not_json": 2, "without_text": 1}
    write_lines(tmp_path / "b.jsonl", TEXTS)
    expected = train_tokenizer([str(tmp_path / "b.jsonl")], 290, str(tmp_path / "b"), TextOptions(max_bytes=max_bytes))
    assert result["sha256"] == expected["sha256"]


def test_of_two_processes_on_one_output_the_later_is_refused_and_leaves_the_others_tokenizer(tmp_path, monkeypatch):
    """Catches a folder with the vocabulary of one and the merges of the other."""
    inputs, output, train = [write_lines(tmp_path / "a.jsonl", TEXTS)], tmp_path / "out", Tokenizer.train

    def beaten(*arguments):
        train(TEXTS[:9], 260).save(str(output))
        return train(*arguments)

    monkeypatch.setattr(Tokenizer, "train", beaten)
    with pytest.raises(UserError, match="new or empty"):
        train_tokenizer(inputs, 290, str(output))
    assert Tokenizer.load(str(output)).vocab_size == 260
    assert {file.name for file in output.iterdir()} == {"tokenizer.json", "vocab.json", "merges.txt"}
