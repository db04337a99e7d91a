"""Documents that share n-grams with evaluation files: left out, counted, and the same whatever does the work."""

import dataclasses
import hashlib
import json

import pytest

from algpt2.config.records import RecordOptions
from algpt2.errors import UserError
from algpt2.preparation import plan
from algpt2.preparation.exclusion import excluded_files, ngrams_of
from algpt2.preparation.plan import Part
from algpt2.preparation.preparation import encode_part, make_tfrecords
from algpt2.records.input_counts import ExcludedFile, Exclusion
from algpt2.records.manifest import read_manifest
from algpt2.text.tokenizer import Tokenizer

WORDS = "one two three four five six seven eight nine ten eleven twelve thirteen"
CLEAN = [f"page {n}: " + "the cat sat on the mat " * (n % 5) for n in range(80)]
FOUND = [f"{n} {WORDS.upper()}! And so on." for n in range(9)] + [WORDS.replace(" ", ", ")]
NEARLY = [WORDS.replace("seven ", ""), WORDS.rsplit(" ", 1)[0] + " fourteen"]
OPTIONS = RecordOptions(seq_len=4, num_shards=2, val_fraction=0.2)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer") / "tokenizer"
    Tokenizer.train(CLEAN + FOUND, 280).save(str(folder))
    return str(folder)


@pytest.fixture
def evaluation(tmp_path, monkeypatch):
    """Options that leave out what is in a small evaluation file; the input is cut into many pieces."""
    monkeypatch.setattr(plan, "LEAST_PIECE_BYTES", 1000)
    (tmp_path / "evaluation.jsonl").write_text(json.dumps({"question": f"so: {WORDS}?", "answer": "yes"}) + "\n")
    return dataclasses.replace(OPTIONS, exclude_ngrams=(str(tmp_path / "evaluation.jsonl"),))


def written(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return [str(path)]


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def shards(folder):
    return {name: data for name, data in contents(folder).items() if name.endswith(".tfrecord")}


def test_records_are_those_of_a_corpus_without_these_documents(tmp_path, tokenizer, evaluation):
    mixed = [*FOUND[:5], *CLEAN, *NEARLY, *FOUND[5:]]
    result = make_tfrecords(written(tmp_path / "a.jsonl", mixed), tokenizer, str(tmp_path / "data"), evaluation)
    make_tfrecords(written(tmp_path / "b.jsonl", CLEAN + NEARLY), tokenizer, str(tmp_path / "clean"), OPTIONS)
    assert shards(tmp_path / "data") == shards(tmp_path / "clean")
    (path,) = evaluation.exclude_ngrams
    sha256 = hashlib.sha256((tmp_path / "evaluation.jsonl").read_bytes()).hexdigest()
    expected = Exclusion(13, (ExcludedFile(path, sha256),), len(FOUND))
    assert read_manifest(str(tmp_path / "data")).exclusion == expected
    assert result["exclusion"]["documents"] == len(FOUND)
    assert read_manifest(str(tmp_path / "clean")).exclusion is None


def test_fewer_words_leave_out_more(tmp_path, tokenizer, evaluation):
    inputs = written(tmp_path / "a.jsonl", CLEAN + NEARLY)
    options = dataclasses.replace(evaluation, ngram_words=6)
    assert make_tfrecords(inputs, tokenizer, str(tmp_path / "data"), options)["exclusion"]["documents"] == 2


def test_processes_and_parts_change_no_byte(tmp_path, tokenizer, evaluation):
    inputs = written(tmp_path / "a.jsonl", CLEAN + FOUND)
    make_tfrecords(inputs, tokenizer, str(tmp_path / "one"), evaluation)
    make_tfrecords(inputs, tokenizer, str(tmp_path / "two"), evaluation, num_workers=2)
    for index in (1, 0):
        encode_part(inputs, tokenizer, str(tmp_path / "parts"), evaluation, 1, Part(index, 2))
    make_tfrecords(inputs, tokenizer, str(tmp_path / "parts"), evaluation, merge=True)
    assert contents(tmp_path / "two") == contents(tmp_path / "parts") == contents(tmp_path / "one")


def test_a_changed_evaluation_file_is_another_command(tmp_path, tokenizer, evaluation):
    inputs = written(tmp_path / "a.jsonl", CLEAN + FOUND)
    encode_part(inputs, tokenizer, str(tmp_path / "data"), evaluation, 1, Part(0, 2))
    found = excluded_files(evaluation)
    written(tmp_path / "evaluation.jsonl", [f"and {WORDS}"])
    with pytest.raises(UserError, match="another command, whose excluded_files differ"):
        make_tfrecords(inputs, tokenizer, str(tmp_path / "data"), evaluation)
    with pytest.raises(UserError, match="evaluation.jsonl must stay as it is while it is in use"):
        ngrams_of(found, 13)


def test_files_without_an_ngram_are_refused_and_short_texts_are_told(tmp_path, evaluation, caplog):
    excluded_files(evaluation)
    assert "1 texts of" in caplog.text
    with pytest.raises(UserError, match="must have 99 words in a row, and .*evaluation.jsonl has not"):
        excluded_files(dataclasses.replace(evaluation, ngram_words=99))
    with pytest.raises(UserError, match="nothing is at"):
        excluded_files(dataclasses.replace(evaluation, exclude_ngrams=(str(tmp_path / "none.txt"),)))


def test_a_number_of_words_without_files_is_refused():
    with pytest.raises(UserError, match="ngram_words needs files of --exclude_ngrams"):
        RecordOptions(ngram_words=8)
    with pytest.raises(UserError, match="ngram_words must be at least 1"):
        RecordOptions(ngram_words=0, exclude_ngrams=("a.txt",))
