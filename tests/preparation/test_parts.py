"""Parts of the input that machines encode each by itself, and the records that are made of all of them."""

import json
import shutil

import pytest

from algpt2.config.records import RecordOptions
from algpt2.errors import UserError
from algpt2.preparation import plan
from algpt2.preparation.plan import Part
from algpt2.preparation.preparation import encode_part, make_tfrecords
from algpt2.preparation.work import Work
from algpt2.text.tokenizer import Tokenizer

TEXTS = [f"number {n}: " + "the cat sat on the mat \u00e9 " * (n % 50) for n in range(500)]
OPTIONS = RecordOptions(seq_len=16, num_shards=4, val_fraction=0.1)


@pytest.fixture
def inputs(tmp_path, monkeypatch):
    """The first three arguments of a preparation of 13 pieces."""
    monkeypatch.setattr(plan, "LEAST_PIECE_BYTES", 1 << 15)
    Tokenizer.train(TEXTS, 300).save(str(tmp_path / "tokenizer"))
    (tmp_path / "documents.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return [str(tmp_path / "documents.jsonl")], str(tmp_path / "tokenizer"), str(tmp_path / "data")


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_parts_in_any_order_are_merged_to_the_bytes_of_one_machine(tmp_path, inputs):
    documents, tokenizer, output = inputs
    found = [encode_part(*inputs, OPTIONS, 1, Part(index, 3)) for index in (2, 0, 1)]
    assert [one["shard"] for one in found] == ["2/3", "0/3", "1/3"]
    assert sum(one["documents"] for one in found) == len(TEXTS)
    result = make_tfrecords(*inputs, OPTIONS, merge=True)
    assert result["train"]["documents"] + result["val"]["documents"] == len(TEXTS)
    make_tfrecords(documents, tokenizer, str(tmp_path / "alone"), OPTIONS)
    assert contents(tmp_path / "data") == contents(tmp_path / "alone")


def test_a_copy_of_the_input_on_another_machine_is_the_same_input(tmp_path, inputs, monkeypatch):
    encode_part(*inputs, OPTIONS, 1, Part(0, 1))
    shutil.copyfile(inputs[0][0], tmp_path / "copy")
    (tmp_path / "copy").rename(inputs[0][0])  # another inode and another time of change
    monkeypatch.setattr(Work, "encode", None)
    assert make_tfrecords(*inputs, OPTIONS, merge=True)["train"]["records"] > 0


def test_a_part_that_is_missing_is_named(inputs):
    for index in (0, 2, 3):
        encode_part(*inputs, OPTIONS, 1, Part(index, 4))
    with pytest.raises(UserError, match=r"3 are not encoded: run .* i = \[1, 5, 9\] modulo n"):
        make_tfrecords(*inputs, OPTIONS, merge=True)
    encode_part(*inputs, OPTIONS, 1, Part(1, 4))
    make_tfrecords(*inputs, OPTIONS, merge=True)


def test_a_part_that_is_done_is_not_done_again_and_more_parts_than_pieces_do_nothing(inputs, monkeypatch):
    first = encode_part(*inputs, OPTIONS, 1, Part(0, 2))
    monkeypatch.setattr(Work, "encode", None)
    assert encode_part(*inputs, OPTIONS, 1, Part(0, 2)) == first
    assert encode_part(*inputs, OPTIONS, 2, Part(99, 100)) == {
        **{"shard": "99/100", "pieces": 0, "documents": 0, "text_bytes": 0, "input_tokens": 0}
    }


def test_a_part_of_another_command_is_refused(inputs):
    encode_part(*inputs, OPTIONS, 1, Part(0, 2))
    with pytest.raises(UserError, match="another command, whose options differ"):
        encode_part(*inputs, RecordOptions(seq_len=16, seed=5), 1, Part(1, 2))


@pytest.mark.parametrize("text", ["", "1", "2/2", "a/2", "-1/2", "1/", "0/0", "1/2/3"])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(UserError, match="shard must be i/n with i from 0 to n - 1"):
        Part.parse(text)
