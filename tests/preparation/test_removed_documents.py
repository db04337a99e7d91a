"""The list of what is left out: every document that is not in the records, and no other, whatever does the work."""

import dataclasses
import gzip
import json
from collections import Counter

import pytest

from algpt2 import storage
from algpt2.config.records import RecordOptions
from algpt2.errors import UserError
from algpt2.preparation import plan, preparation
from algpt2.preparation.document_keys import content_digest, key_array, order_key
from algpt2.preparation.mixture import Input
from algpt2.preparation.plan import Part
from algpt2.preparation.preparation import encode_part, make_tfrecords
from algpt2.records.manifest import read_manifest
from algpt2.text.tokenizer import Tokenizer

PAGES = [f"page {n}: " + "the cat sat on the mat " * (n % 5) for n in range(60)]
LEAKED = "so one two three four five"
FAULTS = {b"{": "not_json", b'{"text": 3}': "without_text", b'{"text": "\xff"}': "not_utf8"}
OPTIONS = RecordOptions(seq_len=4, num_shards=2, val_fraction=0.2, on_error="skip")


def line_of(text):
    return json.dumps({"text": text}).encode()


LINES = {
    "a/long.jsonl": [*map(line_of, PAGES[:20]), *FAULTS, line_of(LEAKED), *map(line_of, PAGES[10:40]), b"[]"],
    "a/short.jsonl": [line_of(LEAKED), line_of("short"), *FAULTS],
    "b/1.jsonl": [line_of("short"), *map(line_of, PAGES[30:])],
    "b/2.jsonl": [line_of("short"), line_of("other"), b"{", line_of("other")],
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
    Tokenizer.train(PAGES, 280).save(str(folder))
    return str(folder)


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Two inputs with weights, cut so that a file lies in many pieces and a piece has many files; and the options."""
    monkeypatch.setattr(plan, "LEAST_PIECE_BYTES", 400)
    monkeypatch.setattr(plan, "BIN_BYTES", 500)
    for name, lines in LINES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\n".join(lines) + b"\n")
    (tmp_path / "b" / "3.jsonl.gz").write_bytes(gzip.compress(b"\n".join(LINES["b/1.jsonl"]))[:12])
    (tmp_path / "evaluation.txt").write_text("One, two, three, four, five!")
    options = dataclasses.replace(OPTIONS, exclude_ngrams=(str(tmp_path / "evaluation.txt"),), ngram_words=5)
    return [Input((str(tmp_path / "a"),), 0.5), Input((str(tmp_path / "b"),), 1.5)], options


def expected(folder, deduplicate):
    """What is left out, found by looking at one line after the other."""
    found, seen = [], set()
    for name, lines in LINES.items():
        for number, line in enumerate(lines, start=1):
            reason = reason_of(line, 0.5 if name.startswith("a") else 1.5, seen if deduplicate else set())
            if reason:
                found.append({"file": str(folder / name), "document": number, "reason": reason})
    return [*found, {"file": str(folder / "b/3.jsonl.gz"), "document": 1, "reason": "damaged_file"}]


def reason_of(line, weight, seen):
    if line in FAULTS or line == b"[]":
        return FAULTS.get(line, "not_json")
    text = json.loads(line)["text"]
    if text == LEAKED:
        return "ngram"
    if text in seen:
        return "duplicate"
    seen.add(text)
    key = key_array([order_key(content_digest(text.encode()), OPTIONS.seed)])
    return None if Input(("a",), weight).is_taken(key, 0)[0] else "weight"


def listed(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def work_folder(folder):
    return folder / "unfinished"


@pytest.mark.parametrize("deduplicate", [False, True])
def test_every_document_that_is_left_out_is_listed_with_its_place_and_reason(tmp_path, tokenizer, corpus, deduplicate):
    inputs, options = corpus
    options = dataclasses.replace(options, deduplicate=deduplicate, removed_documents=str(tmp_path / "removed.jsonl"))
    make_tfrecords(inputs, tokenizer, str(tmp_path / "data"), options)
    found, manifest = listed(tmp_path / "removed.jsonl"), read_manifest(str(tmp_path / "data"))
    assert found == expected(tmp_path, deduplicate)
    counts = Counter(one["reason"] for one in found)
    assert counts["ngram"] == manifest.exclusion.documents == 2
    assert counts["weight"] > 0
    assert {kind: counts[kind] for kind in manifest.skipped} == manifest.skipped
    if deduplicate:
        duplicates = manifest.train.duplicate_documents + manifest.val.duplicate_documents
        assert counts["duplicate"] == duplicates == 10 + 10 + 1 + 1 + 1
    assert not work_folder(tmp_path / "data").exists()


def test_processes_and_parts_make_the_same_list(tmp_path, tokenizer, corpus):
    inputs, options = corpus
    options = dataclasses.replace(options, deduplicate=True, removed_documents=str(tmp_path / "removed.jsonl"))
    for index in (1, 0):
        encode_part(inputs, tokenizer, str(tmp_path / "parts"), options, 1, Part(index, 2))
    assert not (tmp_path / "removed.jsonl").exists()
    make_tfrecords(inputs, tokenizer, str(tmp_path / "parts"), options, num_workers=2, merge=True)
    assert listed(tmp_path / "removed.jsonl") == expected(tmp_path, deduplicate=True)


def test_a_list_on_cloud_storage_is_the_one_on_disk(bucket, tmp_path, tokenizer, corpus):
    inputs, options = corpus
    options = dataclasses.replace(options, deduplicate=True, removed_documents=f"{bucket}/removed.jsonl")
    make_tfrecords(inputs, tokenizer, f"{bucket}/data", options)
    found = [json.loads(line) for line in storage.read_text(f"{bucket}/removed.jsonl").splitlines()]
    assert found == expected(tmp_path, deduplicate=True)
    with pytest.raises(UserError, match="a file is at gs://.*/removed.jsonl"):
        make_tfrecords(inputs, tokenizer, f"{bucket}/other", options)


def test_a_list_that_could_not_be_written_is_made_by_the_same_command(tmp_path, tokenizer, corpus, monkeypatch):
    inputs, options = corpus
    options = dataclasses.replace(options, deduplicate=True, removed_documents=str(tmp_path / "removed.jsonl"))

    def write_list(*_):
        raise OSError("no room")

    with monkeypatch.context() as failing:
        failing.setattr(preparation, "write_list", write_list)
        with pytest.raises(OSError, match="no room"):
            make_tfrecords(inputs, tokenizer, str(tmp_path / "data"), options)
    assert not (tmp_path / "removed.jsonl").exists()
    make_tfrecords(inputs, tokenizer, str(tmp_path / "data"), options)
    assert listed(tmp_path / "removed.jsonl") == expected(tmp_path, deduplicate=True)
    assert not work_folder(tmp_path / "data").exists()


def test_a_file_that_exists_is_refused_and_stays(tmp_path, tokenizer, corpus):
    inputs, options = corpus
    (tmp_path / "removed.jsonl").write_text("precious")
    options = dataclasses.replace(options, removed_documents=str(tmp_path / "removed.jsonl"))
    with pytest.raises(UserError, match="removed_documents must be a new file, and a file is at .*removed.jsonl: name"):
        make_tfrecords(inputs, tokenizer, str(tmp_path / "data"), options)
    assert (tmp_path / "removed.jsonl").read_text() == "precious"
    assert not (tmp_path / "data").exists()
    (tmp_path / "folder").mkdir()
    for wrong in (str(tmp_path / "folder"), "", str(tmp_path / "new") + "/"):
        with pytest.raises(UserError, match="removed_documents must be"):
            make_tfrecords(
                inputs, tokenizer, str(tmp_path / "data"), dataclasses.replace(options, removed_documents=wrong)
            )


def test_where_nothing_is_left_out_the_list_is_empty(tmp_path, tokenizer):
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(map(line_of, PAGES)))
    options = RecordOptions(seq_len=4, num_shards=2, removed_documents=str(tmp_path / "removed.jsonl"))
    make_tfrecords([str(tmp_path / "a.jsonl")], tokenizer, str(tmp_path / "data"), options)
    assert (tmp_path / "removed.jsonl").read_bytes() == b""
