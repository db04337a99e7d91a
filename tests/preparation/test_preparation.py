"""Documents to shards: every token accounted for, the same bytes for the same documents, no half-made folder."""

import dataclasses
import json
import os
import re
from collections import Counter

import numpy as np
import pytest

from algpt2 import storage
from algpt2.config.records import LOSSY_PACKINGS, RecordOptions
from algpt2.errors import UserError
from algpt2.preparation import plan, preparation, work
from algpt2.preparation.document_keys import content_digest, is_held_out
from algpt2.preparation.encoding import PieceEncoder
from algpt2.preparation.preparation import make_tfrecords
from algpt2.records.inspection import inspect
from algpt2.records.manifest import read_manifest
from algpt2.records.tfrecords import read_records
from algpt2.storage import json_files
from algpt2.storage.local import LocalStorage
from algpt2.text.tokenizer import Tokenizer
from algpt2.text.tokenizer_training import train_tokenizer

DOCUMENTS = [f"number {n}: " + "the cat sat on the mat \u00e9 " * (n % 7) for n in range(300)] + ["", "same", "same"]
OPTIONS = RecordOptions(seq_len=16, num_shards=4, val_fraction=0.2, seed=3)


def write_lines(path, documents):
    path.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents))
    return str(path)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with an input file, a tokenizer, and the records made of them."""
    folder = tmp_path_factory.mktemp("preparation")
    Tokenizer.train(DOCUMENTS, 300).save(str(folder / "tokenizer"))
    write_lines(folder / "documents.jsonl", DOCUMENTS)
    make(folder, "data", OPTIONS)
    return folder


def make(folder, name, options, inputs=None):
    paths = inputs or [str(folder / "documents.jsonl")]
    return make_tfrecords(paths, str(folder / "tokenizer"), str(folder / name), options)


def file_bytes(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def record_bytes(folder):
    """All but what names the files of the input."""
    return {name: data for name, data in file_bytes(folder).items() if name not in ("manifest.json", "sources.json")}


def targets(folder, split):
    """The stream of a split, read back from its shards: the first id, then every target."""
    manifest = read_manifest(str(folder))
    shards = getattr(manifest, split).shards
    records = [
        record
        for shard in shards
        for record in read_records(str(folder / shard.name), manifest.seq_len, manifest.vocab_size)
    ]
    assert all(left[-1] == right[0] for left, right in zip(records, records[1:], strict=False))
    return np.concatenate([records[0][:1]] + [record[1:] for record in records])


def test_the_shards_spell_the_documents_of_both_splits(workplace):
    manifest, tokenizer = read_manifest(str(workplace / "data")), Tokenizer.load(str(workplace / "data"))
    split_of = {document: is_held_out(content_digest(document.encode()), 0.2) for document in DOCUMENTS}
    for name, held_out in (("train", False), ("val", True)):
        documents = [document for document in DOCUMENTS if split_of[document] == held_out]
        split = getattr(manifest, name)
        stream = targets(workplace / "data", name)
        assert split.documents == len(documents)
        assert split.text_bytes == sum(len(document.encode()) for document in documents)
        assert split.input_tokens == sum(1 + len(tokenizer.encode(document)) for document in documents)
        assert split.target_tokens == len(stream) - 1 == split.records * 16
        assert split.target_tokens + split.tail_tokens == split.input_tokens
        assert 1 <= split.tail_tokens <= 16
        assert split.target_bytes == tokenizer.token_byte_lengths()[stream[1:]].sum()
        whole = tokenizer.decode(stream).split("<|endoftext|>")
        assert stream[0] == tokenizer.eos_id
        assert whole[0] == ""
        assert set(whole[1:-1]) <= set(documents)
        assert len(whole) - 1 >= len(documents) - 16


def test_documents_are_shuffled(workplace):
    texts = Tokenizer.load(str(workplace / "data")).decode(targets(workplace / "data", "train")).split("<|endoftext|>")
    numbers = [int(text.split()[1].rstrip(":")) for text in texts[1:-1] if text.startswith("number")]
    assert abs(np.corrcoef(numbers, range(len(numbers)))[0, 1]) < 0.3


def test_the_same_documents_in_any_order_and_any_files_give_the_same_bytes(workplace, tmp_path):
    order = np.random.default_rng(0).permutation(len(DOCUMENTS))
    shuffled = [DOCUMENTS[place] for place in order]
    inputs = [write_lines(tmp_path / "b.jsonl", shuffled[:99]), write_lines(tmp_path / "a.jsonl", shuffled[99:])]
    make_tfrecords(inputs, str(workplace / "tokenizer"), str(tmp_path / "data"), OPTIONS)
    assert record_bytes(tmp_path / "data") == record_bytes(workplace / "data")


def test_another_seed_moves_documents_but_not_between_the_splits(workplace):
    make(workplace, "other_seed", dataclasses.replace(OPTIONS, seed=4))
    one, two = (read_manifest(str(workplace / name)) for name in ("data", "other_seed"))
    assert one.train.shards[0].crc32c != two.train.shards[0].crc32c
    assert (one.val.documents, one.val.text_bytes) == (two.val.documents, two.val.text_bytes)


def test_shards_are_nearly_equal_and_described_by_the_manifest(workplace):
    manifest = read_manifest(str(workplace / "data"))
    assert [shard.name for shard in manifest.train.shards] == [f"train-{n:05d}-of-00004.tfrecord" for n in range(4)]
    assert [shard.name for shard in manifest.val.shards] == ["val-00000-of-00001.tfrecord"]
    sizes = [shard.records for shard in manifest.train.shards]
    assert max(sizes) - min(sizes) <= 1
    for shard in (*manifest.train.shards, *manifest.val.shards):
        assert shard.crc32c == LocalStorage().crc32c(str(workplace / "data" / shard.name))


def test_the_folder_holds_shards_tokenizer_and_manifest_and_nothing_else(workplace):
    names = {
        "manifest.json",
        "sources.json",
        "tokenizer.json",
        "vocab.json",
        "merges.txt",
        "val-00000-of-00001.tfrecord",
    }
    names |= {f"train-{n:05d}-of-00004.tfrecord" for n in range(4)}
    assert {path.name for path in (workplace / "data").iterdir()} == names
    manifest = read_manifest(str(workplace / "data"))
    assert manifest.tokenizer_sha256 == Tokenizer.load(str(workplace / "data")).sha256
    assert manifest.eos_id == manifest.vocab_size - 1


@pytest.mark.parametrize("packing", LOSSY_PACKINGS)
def test_without_a_held_out_part_other_packings_have_an_empty_split_too(workplace, packing):
    counts = make(workplace, f"all-{packing}", dataclasses.replace(OPTIONS, val_fraction=0.0, packing=packing))
    assert (counts["val"]["documents"], counts["val"]["records"], counts["val"]["lost_tokens"]) == (0, 0, 0)
    assert counts["train"]["documents"] == len(DOCUMENTS)


def test_without_a_held_out_part_every_document_is_trained_on(workplace):
    result = make(workplace, "no_val", dataclasses.replace(OPTIONS, val_fraction=0.0))
    assert result["train"]["documents"] == len(DOCUMENTS)
    assert result["val"] == {**result["val"], "documents": 0, "input_tokens": 0, "records": 0, "shards": 0}
    assert result["tokens_per_second"] > 0


def test_the_split_takes_about_the_fraction_asked_for():
    digests = [content_digest(str(number).encode()) for number in range(20_000)]
    assert 0.045 < np.mean([is_held_out(digest, 0.05) for digest in digests]) < 0.055
    held_out = {digest for digest in digests if is_held_out(digest, 0.05)}
    assert held_out <= {digest for digest in digests if is_held_out(digest, 0.1)}


def make_but_no_manifest(inputs, tokenizer, output, monkeypatch):
    """Ends as a kill does in the moment before the manifest is written."""

    def killed(folder, manifest):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "write_manifest", killed)
        with pytest.raises(KeyboardInterrupt):
            make_tfrecords(inputs, tokenizer, output, OPTIONS)


def test_the_manifest_comes_last_and_the_same_call_goes_on_from_what_is_there(workplace, monkeypatch):
    inputs = [str(workplace / "documents.jsonl")]
    make_but_no_manifest(inputs, str(workplace / "tokenizer"), str(workplace / "killed"), monkeypatch)
    names = {path.name for path in (workplace / "killed").iterdir()}
    assert names == file_bytes(workplace / "data").keys() - {"manifest.json"} | {"unfinished", ".lock"}
    with pytest.raises(UserError, match=r"another command, whose options differ"):
        make(workplace, "killed", dataclasses.replace(OPTIONS, seed=9))
    with monkeypatch.context() as patch:  # nothing is encoded or written again
        patch.setattr(PieceEncoder, "encode", None)
        patch.setattr(work, "write_shard", None)
        make(workplace, "killed", OPTIONS)
    assert file_bytes(workplace / "killed") == file_bytes(workplace / "data")


def test_input_that_changed_since_a_kill_is_refused_by_name_and_nothing_is_lost(tmp_path, workplace, monkeypatch):
    inputs = [write_lines(tmp_path / "a.jsonl", DOCUMENTS[:99]), write_lines(tmp_path / "b.jsonl", DOCUMENTS[99:])]
    make_but_no_manifest(inputs, str(workplace / "tokenizer"), str(tmp_path / "data"), monkeypatch)
    os.rename(tmp_path / "b.jsonl", tmp_path / "kept")
    write_lines(tmp_path / "b.jsonl", ["another"])
    with pytest.raises(UserError, match=r"b.jsonl changed: put back what was there"):
        make_tfrecords(inputs, str(workplace / "tokenizer"), str(tmp_path / "data"), OPTIONS)
    assert list((tmp_path / "data" / "unfinished").glob("*.documents"))


def test_wrong_input_keeps_the_pieces_that_were_encoded_before_it(tmp_path, workplace, monkeypatch):
    monkeypatch.setattr(plan, "LEAST_PIECE_BYTES", 1 << 10)
    inputs = [write_lines(tmp_path / "a.jsonl", DOCUMENTS[:99]), write_lines(tmp_path / "b.jsonl", DOCUMENTS[99:])]
    good = (tmp_path / "b.jsonl").read_text()
    (tmp_path / "b.jsonl").write_text(good + "{\n")
    with pytest.raises(UserError, match="b.jsonl"):
        make_tfrecords(inputs, str(workplace / "tokenizer"), str(tmp_path / "data"), OPTIONS)
    kept = {path.name for path in (tmp_path / "data" / "unfinished").glob("*.documents")}
    (tmp_path / "b.jsonl").write_text(good)
    encoded, encode = [], PieceEncoder.encode
    monkeypatch.setattr(
        PieceEncoder, "encode", lambda self, name, *rest: encoded.append(name) or encode(self, name, *rest)
    )
    make_tfrecords(inputs, str(workplace / "tokenizer"), str(tmp_path / "data"), OPTIONS)
    assert encoded
    assert not {name.split("-")[0] for name in kept} & {*encoded}
    assert record_bytes(tmp_path / "data") == record_bytes(workplace / "data")


@pytest.mark.parametrize("packing", ["stream", "legacy"])
def test_several_processes_write_the_same_bytes_as_one(tmp_path, workplace, monkeypatch, packing):
    options = dataclasses.replace(OPTIONS, packing=packing)
    make(workplace, f"one-{packing}", options)
    monkeypatch.setattr(plan, "LEAST_PIECE_BYTES", 1 << 10)
    inputs = [str(workplace / "documents.jsonl")]
    make_tfrecords(inputs, str(workplace / "tokenizer"), str(tmp_path / "data"), options, num_workers=2)
    assert file_bytes(tmp_path / "data") == file_bytes(workplace / f"one-{packing}")


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_faster_encoder_writes_the_same_bytes(tmp_path, workplace, num_workers):
    pytest.importorskip("gigatoken", reason="gigatoken is not installed")
    options = dataclasses.replace(OPTIONS, encoder="gigatoken")
    inputs = [str(workplace / "documents.jsonl")]
    make_tfrecords(inputs, str(workplace / "tokenizer"), str(tmp_path / "data"), options, num_workers)
    assert record_bytes(tmp_path / "data") == record_bytes(workplace / "data")


@pytest.mark.parametrize(
    ("name", "value"),
    [("seq_len", 0), ("num_shards", 0), ("val_fraction", 1.0), ("val_fraction", -0.1), ("val_fraction", float("nan"))],
)
def test_options_out_of_range_are_refused(name, value):
    with pytest.raises(UserError, match=f"{name} must be"):
        RecordOptions(**{name: value})


@pytest.mark.parametrize(
    ("documents", "changes", "expected"),
    [
        ([], {}, "at least one document"),
        (["x"], {"val_fraction": 0.0}, "train split has 0 of 16 tokens"),
        (["the cat sat " * 50], {"val_fraction": 1e-6}, "val split has 0 of 16 tokens"),
        (DOCUMENTS, {"num_shards": 10_000}, "at least 10000 records, one a shard"),
    ],
)
def test_too_few_documents_are_an_error_before_anything_is_written(workplace, tmp_path, documents, changes, expected):
    inputs = [write_lines(tmp_path / "few.jsonl", documents)]
    with pytest.raises(UserError, match=expected):
        make_tfrecords(
            inputs, str(workplace / "tokenizer"), str(tmp_path / "out"), dataclasses.replace(OPTIONS, **changes)
        )
    assert not (tmp_path / "out").exists()


def test_documents_tokenizer_and_records_on_cloud_storage_are_those_on_disk(bucket, tmp_path):
    lines = "".join(json.dumps({"text": f"the cat sat on mat {number}"}) + "\n" for number in range(200))
    options, made = RecordOptions(seq_len=8, num_shards=3, val_fraction=0.2), {}
    for root in (str(tmp_path), f"{bucket}/whole"):
        source, tokenizer, data = (storage.join(root, name) for name in ("in/a.jsonl", "tokenizer", "data"))
        storage.write_text(source, lines)
        train_tokenizer([storage.join(root, "in")], 280, tokenizer)
        make_tfrecords([source], tokenizer, data, options)
        made[root] = {storage.base_name(file): storage.read_bytes(file) for file in storage.expand(data)}
        with pytest.raises(UserError, match="new or empty"):
            make_tfrecords([source], tokenizer, data, options)
    on_disk, on_cloud = made.values()
    assert on_disk.keys() == on_cloud.keys()
    assert {name for name in on_disk if on_disk[name] != on_cloud[name]} == {"manifest.json", "sources.json"}
    assert len(on_disk) == 3 + 1 + 5


def test_an_output_folder_that_holds_something_is_refused_before_any_work(workplace):
    with pytest.raises(UserError, match="new or empty"):
        make_tfrecords(["/nowhere"], "/nowhere", str(workplace / "data"), OPTIONS)


def test_a_tokenizer_that_loses_bytes_is_found_out(workplace, tmp_path, monkeypatch):
    ones = lambda self, texts: (np.ones(len(texts), np.uint32),) * 2  # noqa: E731
    monkeypatch.setattr(Tokenizer, "encode_arrays", ones)
    with pytest.raises(RuntimeError, match="bytes"):
        make_tfrecords([str(workplace / "documents.jsonl")], str(workplace / "tokenizer"), str(tmp_path / "o"), OPTIONS)


def test_a_large_vocabulary_is_prepared_too(workplace, tmp_path, monkeypatch):
    expected = {split: targets(workplace / "data", split) for split in ("train", "val")}
    monkeypatch.setattr("algpt2.records.record_bytes.LARGEST_UINT16_VOCAB_SIZE", 100)
    make_tfrecords([str(workplace / "documents.jsonl")], str(workplace / "tokenizer"), str(tmp_path / "data"), OPTIONS)
    for split in ("train", "val"):
        np.testing.assert_array_equal(targets(tmp_path / "data", split), expected[split])


def test_inspection_shows_the_first_records_as_text(workplace):
    result = inspect(str(workplace / "data"), "val", 2)
    tokenizer = Tokenizer.load(str(workplace / "data"))
    assert [record["shard"] for record in result["records"]] == ["val-00000-of-00001.tfrecord"] * 2
    assert result["records"][0]["text"] == tokenizer.decode(targets(workplace / "data", "val")[:17])
    assert result["train"]["shards"] == 4
    with pytest.raises(UserError, match="count"):
        inspect(str(workplace / "data"), "val", -1)


def test_what_a_piece_came_to_is_read_once_to_count_and_once_to_write(tmp_path, workplace, monkeypatch):
    """On gs:// each reading is two requests, and there can be thousands of pieces and of shards."""
    monkeypatch.setattr(plan, "LEAST_PIECE_BYTES", 1 << 10)
    reads, load = [], json_files.load_object

    def load_object(path):
        reads.append(path)
        return load(path)

    monkeypatch.setattr(json_files, "load_object", load_object)
    inputs = [str(workplace / "documents.jsonl")]
    make_tfrecords(inputs, str(workplace / "tokenizer"), str(tmp_path / "data"), OPTIONS)
    of_pieces = Counter(path for path in reads if re.search(r"unfinished/[0-9a-f]+\.json$", path))
    assert len(of_pieces) > 10
    assert max(of_pieces.values()) == 2
