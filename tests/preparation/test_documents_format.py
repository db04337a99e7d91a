"""Records of one document each: those of the packed stream, whole, in any number of processes, parts and attempts."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from algpt2.config.records import RecordOptions
from algpt2.errors import UserError
from algpt2.preparation import plan, work
from algpt2.preparation.plan import Part
from algpt2.preparation.preparation import encode_part, make_tfrecords
from algpt2.records.document_lengths import lengths_path, read_lengths
from algpt2.records.document_reading import read_documents
from algpt2.records.inspection import inspect
from algpt2.records.manifest import read_manifest
from algpt2.records.record_set import open_record_set
from algpt2.records.statistics import statistics
from algpt2.records.tfrecords import read_records
from algpt2.records.verification import verify
from algpt2.text.tokenizer import Tokenizer
from algpt2.tracking.record_charts import write_statistics_image

TEXTS = [f"number {n}: " + "the cat sat on the mat \u00e9 " * (n % 7) for n in range(200)] + ["", "same", "same"]
PACKED = RecordOptions(seq_len=16, num_shards=3, val_fraction=0.2, seed=3)
DOCUMENTS = dataclasses.replace(PACKED, format="documents")


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """Input and tokenizer, as `make_tfrecords` takes them."""
    folder = tmp_path_factory.mktemp("documents_format")
    Tokenizer.train(TEXTS, 300).save(str(folder / "tokenizer"))
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return [str(folder / "a.jsonl")], str(folder / "tokenizer")


@pytest.fixture(scope="module")
def made(arguments, tmp_path_factory):
    """The folders of the same documents in both formats."""
    folder = tmp_path_factory.mktemp("formats")
    for options in (PACKED, DOCUMENTS):
        make_tfrecords(*arguments, str(folder / options.format), options)
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def read_all(record_set):
    """The documents of all shards, in batches."""
    return [batch for file in record_set.files for batch in read_documents(file, record_set.vocab_size)]


def test_the_documents_are_those_that_the_packed_records_are_cut_from(made):
    documents, packed = (open_record_set([str(made / name)], "train") for name in ("documents", "packed"))
    stream = np.concatenate([batch.ids for batch in read_all(documents)])
    rows = np.concatenate([[*read_records(file, 16, packed.vocab_size)] for file in packed.files])
    targets = np.concatenate([rows[0, :1], rows[:, 1:].ravel()])
    np.testing.assert_array_equal(stream[: len(targets)], targets)
    told = read_manifest(str(made / "documents")).train
    assert len(stream) == told.input_tokens == told.target_tokens + told.tail_tokens
    assert (stream == documents.eos_id).sum() == told.documents == told.records
    assert told.target_bytes == told.text_bytes
    assert documents.records == packed.records


def test_the_lengths_beside_each_shard_are_those_of_its_documents(made):
    record_set = open_record_set([str(made / "documents")], "train")
    for file, shard in zip(record_set.files, record_set.shards, strict=True):
        lengths = np.concatenate([batch.lengths for batch in read_documents(file, record_set.vocab_size)])
        np.testing.assert_array_equal(read_lengths(file, shard), lengths)
    sizes = [shard.records for shard in record_set.shards]
    assert max(sizes) - min(sizes) <= 1


def test_validation_records_are_packed_and_the_same_in_both_formats(made):
    packed, documents = contents(made / "packed"), contents(made / "documents")
    assert packed["val-00000-of-00001.tfrecord"] == documents["val-00000-of-00001.tfrecord"]
    one, other = (open_record_set([str(made / name)], "val") for name in ("packed", "documents"))
    assert (one.fingerprint, one.record_format) == (other.fingerprint, other.record_format) == (one.fingerprint, "ids")


def test_documents_are_trained_on_and_not_validated_on(made):
    with pytest.raises(UserError, match="--val_path must name packed records"):
        open_record_set([str(made / "documents" / "train-*.tfrecord")], "val")
    with pytest.raises(UserError, match=r"record_format documents.*record_format ids"):
        open_record_set([str(made / "documents"), str(made / "packed")], "train")


def test_several_processes_parts_and_a_killed_call_end_in_the_same_bytes(arguments, made, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "LEAST_PIECE_BYTES", 1 << 10)
    expected = contents(made / "documents")
    make_tfrecords(*arguments, str(tmp_path / "two"), DOCUMENTS, num_workers=2)
    assert contents(tmp_path / "two") == expected
    for index in (1, 0):
        encode_part(*arguments, str(tmp_path / "parts"), DOCUMENTS, 1, Part(index, 2))
    write, written = work.write_document_shard, []

    def killed(path, *rest):
        if written:
            raise KeyboardInterrupt
        written.append(path)
        return write(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(work, "write_document_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            make_tfrecords(*arguments, str(tmp_path / "parts"), DOCUMENTS, merge=True)
    make_tfrecords(*arguments, str(tmp_path / "parts"), DOCUMENTS, merge=True)
    assert contents(tmp_path / "parts") == expected


def test_without_copies_the_documents_are_those_of_a_corpus_that_never_had_them(arguments, tmp_path):
    once = tmp_path / "once.jsonl"
    once.write_text("".join(json.dumps({"text": text}) + "\n" for text in dict.fromkeys(TEXTS)))
    make_tfrecords(*arguments, str(tmp_path / "a"), dataclasses.replace(DOCUMENTS, deduplicate=True))
    make_tfrecords([str(once)], arguments[1], str(tmp_path / "b"), DOCUMENTS)
    one, other = contents(tmp_path / "a"), contents(tmp_path / "b")
    for name in ("manifest.json", "sources.json"):  # which name the input
        assert one.pop(name) != other.pop(name)
    assert one == other


def test_other_packings_than_the_stream_are_refused():
    for packing in ("legacy", "best-fit"):
        with pytest.raises(UserError, match=rf"packing must be stream with --format documents.*received '?{packing}"):
            RecordOptions(format="documents", packing=packing)
    with pytest.raises(UserError, match="format must be one of packed, documents"):
        RecordOptions(format="rows")


def test_documents_that_fill_no_row_or_not_every_shard_are_refused(arguments, tmp_path):
    for changes, found in (({"seq_len": 1 << 20}, "0 documents that fill a row"), ({"num_shards": 900}, "16[0-9] doc")):
        options = dataclasses.replace(DOCUMENTS, val_fraction=0.0 if "seq_len" in changes else 0.2, **changes)
        with pytest.raises(UserError, match=f"the train split has {found}"):
            make_tfrecords(*arguments, str(tmp_path / "few"), options)


def test_inspection_shows_documents_and_statistics_count_each(made):
    folder = str(made / "documents")
    shown = inspect(folder, "train", 2)
    assert all(record["text"].startswith("<|endoftext|>") for record in shown["records"])
    assert shown["records"][0]["text"].removeprefix("<|endoftext|>") in TEXTS
    found = statistics(folder, "train")
    told = read_manifest(folder).train
    assert found["documents_in_a_record"] == {"1": told.documents}
    assert found["document_tokens"]["mean"] == pytest.approx((told.input_tokens - told.documents) / told.documents)
    assert statistics(folder, "val")["records"] == read_manifest(folder).val.records


def test_the_statistics_of_documents_are_drawn(made, tmp_path):
    pytest.importorskip("matplotlib")
    image, drawn = tmp_path / "documents.svg", []
    statistics(str(made / "documents"), "train", drawn.append)
    write_statistics_image(str(image), *drawn)
    assert image.read_bytes().startswith(b"<?xml")


def test_verification_reads_documents_and_finds_what_differs(made, tmp_path):
    assert (
        verify(str(made / "documents"))["train"]["documents"] == read_manifest(str(made / "documents")).train.documents
    )
    folder = Path(shutil.copytree(made / "documents", tmp_path / "spoilt"))
    lengths = Path(lengths_path(str(folder / "train-00001-of-00003.tfrecord")))
    data = lengths.read_bytes()
    lengths.write_bytes(data[4:] + data[:4])
    with pytest.raises(UserError, match="lengths-train-00001-of-00003.bin is altered, .*-00003.bin has crc32c"):
        verify(str(folder))
    with pytest.raises(UserError, match="lengths-train-00001-of-00003.bin must have CRC32C"):
        open_record_set([str(folder)], "train")
    lengths.unlink()
    with pytest.raises(UserError, match="lengths-train-00001-of-00003.bin is missing"):
        verify(str(folder))
    with pytest.raises(UserError, match="lengths-train-00001-of-00003.bin is missing"):
        open_record_set([str(folder)], "train", check_content=False)
