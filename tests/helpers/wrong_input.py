"""Wrong input of every kind, for the tests of what becomes of it."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
from command_line import CONFIGS, SEQ_LEN, STEPS

from algpt2 import storage
from algpt2.config.records import RecordOptions
from algpt2.preparation.preparation import make_tfrecords
from algpt2.records.manifest import read_manifest, write_manifest
from algpt2.records.shard_writing import write_shard
from algpt2.text.tokenizer_training import train_tokenizer


def write_wrong_input(bad, good):
    """Writes into the folder `bad` all that can be wrong, made of the sound input in `good`."""
    write_wrong_files(bad)
    write_other_tokenizers(bad, good)
    write_wrong_records(bad, good)
    write_wrong_runs(bad, good)


def write_wrong_files(bad):
    (bad / "empty_folder").mkdir()
    texts = {
        "empty.jsonl": "",
        "blank.jsonl": "\n",
        "wrong_line.jsonl": '{"text": "a"}\n{"text": "b"\n',
        "no_text.jsonl": '{"text": "a"}\n{"body": "b"}\n',
        "number.jsonl": '{"text": 3}\n',
        "table.csv": "a,b\n",
        "spaces.txt": " \n",
        "short.txt": "alpha beta\n",
        "not.json": "{",
        "list.json": "[]",
        "heads.json": json.dumps({**CONFIGS["gpt2"], "n_head": 3}),
        "unknown_key.json": json.dumps({**CONFIGS["gpt2"], "n_layers": 3}),
        "small.json": json.dumps({**CONFIGS["gpt2"], "vocab_size": 257}),
        "evaluation_without_scores.json": "{}",
        "long.json": json.dumps({**CONFIGS["gpt2"], "seq_len": 32}),
    }
    for name, text in texts.items():
        (bad / name).write_text(text)
    (bad / "latin1.txt").write_bytes("caf\u00e9".encode("latin-1"))
    (bad / "latin1.jsonl").write_bytes(b'{"text": "a"}\n' + '{"text": "\u00e9"}\n'.encode("latin-1"))


def write_other_tokenizers(bad, good):
    (bad / "other.jsonl").write_text('{"text": "one two three one two three"}\n' * 40)
    train_tokenizer([str(bad / "other.jsonl")], 270, str(bad / "other_tokenizer"))
    options = RecordOptions(seq_len=SEQ_LEN, num_shards=1, val_fraction=0)
    make_tfrecords([str(bad / "other.jsonl")], str(bad / "other_tokenizer"), str(bad / "other_records"), options)
    (bad / "half_tokenizer").mkdir()
    shutil.copy(good / "tokenizer" / "vocab.json", bad / "half_tokenizer")


def write_wrong_records(bad, good):
    first_shard = "train-00000-of-00003.tfrecord"
    changes = {
        "no_manifest": lambda folder: (folder / "manifest.json").unlink(),
        "wrong_manifest": lambda folder: edit_json(folder / "manifest.json", lambda fields: fields.pop("seq_len")),
        "missing_shard": lambda folder: (folder / first_shard).unlink(),
        "truncated": lambda folder: (folder / first_shard).write_bytes((folder / first_shard).read_bytes()[:-1]),
        "changed": lambda folder: flip_bit(folder / first_shard),
        "changed_data": lambda folder: flip_bit_unnoticed(folder, "train", 60),
        "changed_val_data": lambda folder: flip_bit_unnoticed(folder, "val", 60),
        "foreign_id": lambda folder: write_foreign_id(folder, "train"),
        "foreign_val_id": lambda folder: write_foreign_id(folder, "val"),
        "no_tokenizer": lambda folder: [(folder / n).unlink() for n in ("tokenizer.json", "vocab.json", "merges.txt")],
        "swapped_tokenizer": lambda folder: shutil.copytree(bad / "other_tokenizer", folder, dirs_exist_ok=True),
    }
    for name, change in changes.items():
        change(Path(shutil.copytree(good / "records", bad / name)))


def write_wrong_runs(bad, good):
    last = f"checkpoints/step_{STEPS:08d}"
    changes = {
        "unfinished": lambda folder: (folder / "result.json").unlink(),
        "wrong_result": lambda folder: (folder / "result.json").write_text("{"),
        "flipped": lambda folder: [flip_bit(file) for file in folder.glob("checkpoints/*/model.safetensors")],
        "wrong_marker": lambda folder: (folder / last / "COMMITTED").write_bytes(b"\xff"),
        "run_folder": lambda folder: replace_by_folder(folder / "run.json"),
        "lock_folder": lambda folder: replace_by_folder(folder / ".lock"),
        "checkpoints_file": lambda folder: replace_by_file(folder / "checkpoints"),
        "no_tensors": lambda folder: (folder / last / "model.safetensors").unlink(),
    }
    for name, change in changes.items():
        change(Path(shutil.copytree(good / "algpt2", bad / name)))


def replace_by_folder(file):
    """Puts a folder with a file in it in the place of a file."""
    file.unlink()
    file.mkdir()
    (file / "notes.txt").write_text("mine")


def replace_by_file(folder):
    """Puts a file in the place of a folder."""
    shutil.rmtree(folder)
    folder.write_text("mine")


def flip_bit(file, place=-1):
    """Changes the last bit of one byte of a file."""
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)


def edit_json(file, change):
    """Writes a JSON object anew after `change` has changed it."""
    fields = json.loads(file.read_text())
    change(fields)
    file.write_text(json.dumps(fields))


def flip_bit_unnoticed(folder, split, place):
    """Changes a bit of a split's first shard and gives the manifest the checksum of the changed file."""
    shard = getattr(read_manifest(str(folder)), split).shards[0]
    path = folder / shard.name
    flip_bit(path, place)
    list_first_shard(folder, split, dataclasses.replace(shard, crc32c=storage.of(str(path)).crc32c(str(path))))


def write_foreign_id(folder, split):
    """Makes the first id of a split's first shard one that the vocabulary does not have; all else stays right."""
    manifest = read_manifest(str(folder))
    shard, size = getattr(manifest, split).shards[0], manifest.vocab_size
    records = np.zeros((shard.records, SEQ_LEN + 1), np.int64)
    records[0, 0] = size
    list_first_shard(folder, split, write_shard(str(folder / shard.name), [records], np.ones(size + 1, np.int64)))


def list_first_shard(folder, split, shard):
    """Puts another entry for a split's first shard into the manifest."""
    manifest = read_manifest(str(folder))
    counts = getattr(manifest, split)
    counts = dataclasses.replace(counts, shards=(shard, *counts.shards[1:]))
    write_manifest(str(folder), dataclasses.replace(manifest, **{split: counts}))
