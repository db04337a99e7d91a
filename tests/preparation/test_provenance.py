"""What records were made of: each file's checksum and documents, and a file that changes on the way is refused."""

import dataclasses
import gzip
import json

import google_crc32c
import pyarrow
import pyarrow.parquet
import pytest
from saved_tokenizer import save_tokenizer

from algpt2.config.records import RecordOptions
from algpt2.errors import UserError
from algpt2.preparation import plan
from algpt2.preparation.encoding import PieceEncoder
from algpt2.preparation.plan import Part
from algpt2.preparation.preparation import encode_part, make_tfrecords
from algpt2.preparation.provenance import read_provenance
from algpt2.records.manifest import SOURCES_NAME, read_manifest

TEXTS = [f"number {n}: the cat sat on the mat" for n in range(200)]
OPTIONS = RecordOptions(seq_len=16, num_shards=2, val_fraction=0.2, document_separator="###", on_error="skip")


def lines_of(texts):
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return save_tokenizer(tmp_path_factory, TEXTS)


def write_files(folder):
    """Files of every kind, the larger of which are read in pieces; returns how many documents each has."""
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(lines_of(TEXTS) + b"\n")
    (folder / "b.jsonl.gz").write_bytes(gzip.compress(lines_of(TEXTS[:50])))
    pyarrow.parquet.write_table(pyarrow.table({"text": TEXTS[:30], "other": TEXTS[30:60]}), folder / "c.parquet")
    (folder / "d.txt").write_text("###".join(TEXTS))
    (folder / "e.txt").write_bytes(b"")
    (folder / "f.jsonl").write_bytes(lines_of(TEXTS[:3]) + b"{\n" + lines_of(TEXTS[:2]))
    (folder / "g.jsonl.gz").write_bytes(gzip.compress(lines_of(TEXTS))[:40] + b"\0" * 400_000)
    return {"a.jsonl": 200, "b.jsonl.gz": 50, "c.parquet": 30, "d.txt": 200, "e.txt": 0, "f.jsonl": 5}


@pytest.mark.parametrize(("num_workers", "piece_bytes"), [(1, 1 << 20), (2, 700)])
def test_every_file_is_told_with_the_checksum_of_its_stored_bytes_and_its_documents(
    tmp_path, tokenizer, monkeypatch, num_workers, piece_bytes
):
    """Catches bytes that count twice where pieces overlap, and those behind a fault that nothing reads."""
    monkeypatch.setattr(plan, "LEAST_PIECE_BYTES", piece_bytes)
    monkeypatch.setattr(plan, "MOST_PIECE_BYTES", piece_bytes)
    expected = write_files(tmp_path / "text")
    output = str(tmp_path / "out")
    counts = make_tfrecords([str(tmp_path / "text")], tokenizer, output, OPTIONS, num_workers)
    files = read_provenance(output, read_manifest(output)).files
    assert [file.path for file in files] == sorted(str(file) for file in (tmp_path / "text").iterdir())
    for file in files:
        with open(file.path, "rb") as stream:
            data = stream.read()
        assert (file.size_bytes, file.crc32c) == (len(data), f"{google_crc32c.value(data):08x}"), file.path
    found = {file.path.rsplit("/")[-1]: file.documents for file in files}
    assert {name: found[name] for name in expected} == expected
    assert sum(found.values()) == counts["train"]["documents"] + counts["val"]["documents"]


def test_what_records_were_made_of_cannot_be_changed_unnoticed(tmp_path, tokenizer):
    write_files(tmp_path / "text")
    output = tmp_path / "out"
    make_tfrecords([str(tmp_path / "text")], tokenizer, str(output), OPTIONS)
    manifest = read_manifest(str(output))
    assert read_provenance(str(output), manifest).command.options == OPTIONS
    (output / SOURCES_NAME).write_text((output / SOURCES_NAME).read_text().replace("a.jsonl", "z.jsonl"))
    with pytest.raises(UserError, match="must be the file whose SHA-256 the manifest has"):
        read_provenance(str(output), manifest)
    with pytest.raises(UserError, match="only records that make_tfrecords.py made can be made again"):
        read_provenance(str(output), dataclasses.replace(manifest, sources_sha256=None))


CHANGES = {
    "shorter": lambda file: file.write_bytes(file.read_bytes()[:-40]),
    "longer": lambda file: file.write_bytes(file.read_bytes() + lines_of(["more"])),
    "as long": lambda file: file.write_bytes(file.read_bytes().replace(b"199:", b"991:")),
}


def changing_on_the_way(monkeypatch, file, change):
    """Changes a file once, after the plan is made and before anything is read."""
    encode, changes = PieceEncoder.encode, [change]

    def changed_first(self, *arguments):
        while changes:
            changes.pop()(file)
        return encode(self, *arguments)

    monkeypatch.setattr(PieceEncoder, "encode", changed_first)


@pytest.mark.parametrize("piece_bytes", [700, 1 << 20])
@pytest.mark.parametrize("kind", CHANGES)
def test_a_file_that_changes_after_it_was_looked_at_is_refused_by_name(
    tmp_path, tokenizer, monkeypatch, kind, piece_bytes
):
    monkeypatch.setattr(plan, "LEAST_PIECE_BYTES", piece_bytes)
    file = tmp_path / "a.jsonl"
    file.write_bytes(lines_of(TEXTS))
    changing_on_the_way(monkeypatch, file, CHANGES[kind])
    with pytest.raises(UserError, match=r"must stay as it is until the work on it is done, and .*a.jsonl changed"):
        make_tfrecords([str(file)], tokenizer, str(tmp_path / "out"), OPTIONS)


def test_a_part_of_another_input_than_that_of_the_parts_before_is_refused(tmp_path, tokenizer, monkeypatch):
    monkeypatch.setattr(plan, "LEAST_PIECE_BYTES", 700)
    file = tmp_path / "a.jsonl"
    file.write_bytes(lines_of(TEXTS))
    arguments = ([str(file)], tokenizer, str(tmp_path / "out"), OPTIONS)
    encode_part(*arguments, 1, Part(0, 2))
    CHANGES["longer"](file)
    with pytest.raises(UserError, match=r"a.jsonl changed"):
        encode_part(*arguments, 1, Part(1, 2))
