"""Input that is no document: refused, or left out and counted by kind, in one process and in several."""

import gzip
import itertools
import json

import pyarrow
import pyarrow.parquet
import pytest
from saved_tokenizer import save_tokenizer

from algpt2.config.records import RecordOptions
from algpt2.errors import UserError
from algpt2.preparation import plan
from algpt2.preparation.preparation import make_tfrecords
from algpt2.records.manifest import read_manifest

GOOD = [f"number {n}: the cat sat on the mat" for n in range(120)]
BAD_LINES = {
    "not_json": [b"{", b"[1]", b"", b'{"text": "a"} x'],
    "without_text": [b"{}", b'{"text": 3}', b'{"text": null}'],
    "not_utf8": [b'{"text": "\xff"}'],
    "lone_surrogate": [b'{"text": "\\ud800"}', b'{"text": "a\\udfffb"}'],
}
OPTIONS = RecordOptions(16, 2, val_fraction=0.0, on_error="skip")


def lines_of(texts):
    return [json.dumps({"text": text}).encode() for text in texts]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return save_tokenizer(tmp_path_factory, GOOD)


def write_bad(folder):
    """Files of every kind, in which bad documents stand among good ones; returns how many there are of each kind."""
    folder.mkdir()
    bad = [line for lines in BAD_LINES.values() for line in lines]
    mixed = itertools.chain.from_iterable(zip(bad, lines_of(GOOD[: len(bad)]), strict=True))
    (folder / "a.jsonl").write_bytes(b"\n".join([*mixed, *lines_of(GOOD[len(bad) : 40])]) + b"\n")
    (folder / "b.txt").write_bytes(b"\xff is no text")
    whole = gzip.compress(b"\n".join(lines_of(GOOD[40:60])))
    (folder / "c.jsonl.gz").write_bytes(whole)
    (folder / "d.jsonl.gz").write_bytes(whole[:12])
    table = pyarrow.table({"text": [*GOOD[60:], None]})
    pyarrow.parquet.write_table(table, folder / "e.parquet")
    (folder / "f.parquet").write_bytes((folder / "e.parquet").read_bytes()[:-9])
    counts = {kind: len(lines) for kind, lines in BAD_LINES.items()} | {"damaged_file": 2}
    return counts | {"not_utf8": 2, "without_text": counts["without_text"] + 1}


def shards_of(folder):
    return {file.name: file.read_bytes() for file in folder.glob("*.tfrecord")}


@pytest.mark.parametrize(("num_workers", "piece_bytes"), [(1, 1 << 20), (2, 700)])
def test_what_is_no_document_is_left_out_and_counted_by_kind(
    tmp_path, tokenizer, monkeypatch, caplog, num_workers, piece_bytes
):
    """With all files in one piece, and with each in pieces of its own."""
    monkeypatch.setattr(plan, "LEAST_PIECE_BYTES", piece_bytes)
    counts = write_bad(tmp_path / "bad")
    result = make_tfrecords([str(tmp_path / "bad")], tokenizer, str(tmp_path / "out"), OPTIONS, num_workers)
    assert result["skipped"] == dict(sorted(counts.items()))
    assert read_manifest(str(tmp_path / "out")).skipped == result["skipped"]
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "a.jsonl").write_bytes(b"\n".join(lines_of(GOOD)))
    make_tfrecords([str(tmp_path / "good")], tokenizer, str(tmp_path / "expected"), OPTIONS)
    assert shards_of(tmp_path / "out") == shards_of(tmp_path / "expected")
    told = [one.getMessage() for one in caplog.records if "skipped" in one.getMessage()]
    assert len(told) == len(counts)
    assert any("skipped 4 of the input as not_json; the first: every line must be a JSON object" in one for one in told)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_the_first_is_an_error_unless_skipping_is_asked_for(tmp_path, tokenizer, monkeypatch, num_workers):
    """In several processes too, of which one hands the error to another."""
    monkeypatch.setattr(plan, "LEAST_PIECE_BYTES", 700)
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines_of(GOOD[:20])))
    (tmp_path / "b.jsonl").write_bytes(b"{")
    inputs = [str(tmp_path / name) for name in ("a.jsonl", "b.jsonl")]
    with pytest.raises(UserError, match="every line must be a JSON object"):
        make_tfrecords(inputs, tokenizer, str(tmp_path / "out"), RecordOptions(16, 2), num_workers)


def test_sound_input_has_nothing_skipped(tmp_path, tokenizer):
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines_of(GOOD)))
    assert make_tfrecords([str(tmp_path / "a.jsonl")], tokenizer, str(tmp_path / "out"), OPTIONS)["skipped"] == {}


def test_a_column_that_is_not_there_is_an_error_all_the_same(tmp_path, tokenizer):
    """Catches a wrong --text_key that leaves out a whole corpus."""
    pyarrow.parquet.write_table(pyarrow.table({"words": GOOD}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="must have the column 'text'"):
        make_tfrecords([str(tmp_path / "a.parquet")], tokenizer, str(tmp_path / "out"), OPTIONS)
