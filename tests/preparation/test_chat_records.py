"""Conversations to records: which ids and weights they have, the split, the packing, and what is refused."""

import json

import numpy as np
import pytest
from command_line import snapshot
from conversations import conversations, make_records, message, write_conversations
from saved_tokenizer import save_tokenizer

from algpt2.config.chat_records import ChatRecordOptions
from algpt2.config.records import RecordOptions
from algpt2.errors import UserError
from algpt2.preparation.chat_records import OPEN_ROWS, packed_rows
from algpt2.preparation.preparation import make_tfrecords
from algpt2.records.manifest import read_manifest
from algpt2.records.tfrecords import parse_records, parse_weights
from algpt2.records.verification import verify
from algpt2.text.chat import Message, Template
from algpt2.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    return save_tokenizer(tmp_path_factory, [json.dumps(one) for one in conversations()])


@pytest.fixture(scope="module")
def chat_file(tmp_path_factory):
    return write_conversations(tmp_path_factory.mktemp("chat") / "chat.jsonl")


@pytest.fixture(scope="module", params=["padded", "whole"])
def made(request, tmp_path_factory, chat_file, tokenizer_folder):
    """The records' folder, and their packing."""
    folder = tmp_path_factory.mktemp("chat_records") / "records"
    make_records(folder, chat_file, tokenizer_folder, packing=request.param, seq_len=128)
    return folder, request.param


def rows_of(folder):
    """Returns the ids, (N, seq_len + 1), and the weights of the targets, (N, seq_len), of both splits."""
    import tensorflow as tf

    manifest, ids, weights = read_manifest(str(folder)), [], []
    for shard in (*manifest.train.shards, *manifest.val.shards):
        serialized = tf.stack(list(tf.data.TFRecordDataset(str(folder / shard.name))))
        ids.append(parse_records(serialized, manifest.seq_len, manifest.vocab_size, manifest.record_format).numpy())
        weights.append(parse_weights(serialized, manifest.seq_len).numpy())
    return np.concatenate(ids), np.concatenate(weights)


def test_every_conversation_stands_whole_in_one_record_with_the_weights_of_its_targets(made):
    """Catches: weights of inputs in place of targets, a cropped conversation, and one that is lost or there twice."""
    folder, packing = made
    tokenizer = Tokenizer.load(str(folder))
    found = []
    for ids, weights in zip(*rows_of(folder), strict=True):
        starts = [i for i in np.flatnonzero(ids == tokenizer.eos_id) if [*ids[i + 1 : i + 2]] > [tokenizer.eos_id]]
        for start, end in zip(starts, [*starts[1:], len(ids)], strict=True):
            one = slice(start, end - (ids[start:end] == tokenizer.eos_id).sum() + 1)
            found.append((tuple(ids[one]), (0, *weights[one][: len(ids[one]) - 1])))
            assert not weights[one.stop : end].any()
        assert packing == "whole" or len(starts) == 1
    template = Template(tokenizer)
    encoded = [template.encode([Message(**part) for part in one]) for one in conversations()]
    assert sorted(found) == sorted((tuple(one.ids), tuple(one.weights)) for one in encoded)


def test_the_manifest_counts_conversations_targets_and_what_the_weighted_ones_spell(made):
    folder, _ = made
    manifest, (_, weights) = read_manifest(str(folder)), rows_of(folder)
    contents = [part for one in conversations() for part in one]
    splits = manifest.train, manifest.val
    assert sum(split.weighted_targets for split in splits) == weights.sum()
    assert sum(split.documents for split in splits) == len(conversations())
    assert sum(split.text_bytes for split in splits) == sum(len(part["content"]) for part in contents)
    spelt = sum(len(part["content"]) for part in contents if part["role"] == "assistant")
    assert sum(split.target_bytes for split in splits) == spelt
    assert manifest.eos_id == manifest.vocab_size - 3
    assert verify(str(folder))["train"]["weighted_targets"] == manifest.train.weighted_targets


def test_whole_conversations_together_take_fewer_records(tmp_path, chat_file, tokenizer_folder):
    padded = make_records(tmp_path / "padded", chat_file, tokenizer_folder, seq_len=128)
    whole = make_records(tmp_path / "whole", chat_file, tokenizer_folder, seq_len=128, packing="whole")
    assert padded["train"]["records"] == padded["train"]["documents"] > 2 * whole["train"]["records"]
    assert padded["train"]["weighted_targets"] == whole["train"]["weighted_targets"]
    assert padded["val"]["documents"] == whole["val"]["documents"] > 0


def test_the_bytes_depend_neither_on_the_order_nor_on_the_files_of_the_conversations(
    tmp_path, chat_file, tokenizer_folder
):
    make_records(tmp_path / "one", chat_file, tokenizer_folder, num_shards=2)
    (tmp_path / "parts").mkdir()
    backwards = conversations()[::-1]
    write_conversations(tmp_path / "parts" / "a.jsonl", backwards[:7])
    write_conversations(tmp_path / "parts" / "b.jsonl", backwards[7:])
    make_records(tmp_path / "two", str(tmp_path / "parts"), tokenizer_folder, num_shards=2)
    one, two = (list(snapshot(tmp_path / name).values()) for name in ("one", "two"))
    assert one == two
    make_records(tmp_path / "other", chat_file, tokenizer_folder, num_shards=2, seed=1)
    assert list(snapshot(tmp_path / "other").values()) != one


def test_a_conversation_too_long_is_refused_with_its_line_and_leaves_nothing_or_is_left_out(tmp_path, tokenizer_folder):
    long = [message("user", "one"), message("assistant", "seven " * 60)]
    path = write_conversations(tmp_path / "chat.jsonl", [*conversations()[:9], long, *conversations()[9:]])
    with pytest.raises(UserError, match=r"must fit into a record of 65 ids, and .*chat\.jsonl, line 10 has \d+: raise"):
        make_records(tmp_path / "out", path, tokenizer_folder)
    assert not (tmp_path / "out").exists()
    counts = make_records(tmp_path / "out", path, tokenizer_folder, on_error="skip")
    assert counts["skipped"] == {"too_long": 1}
    assert counts["train"]["documents"] + counts["val"]["documents"] == len(conversations())


def test_a_conversation_that_just_fits_is_taken(tmp_path, tokenizer_folder):
    tokenizer = Tokenizer.load(tokenizer_folder).with_chat_tokens()
    messages = [message("user", "one"), message("assistant", "two")]
    length = len(Template(tokenizer).encode([Message(**one) for one in messages]).ids)
    path = write_conversations(tmp_path / "chat.jsonl", [messages])
    make_records(tmp_path / "out", path, tokenizer_folder, seq_len=length - 1, val_fraction=0)
    with pytest.raises(UserError, match=f"has {length}:"):
        make_records(tmp_path / "too_long", path, tokenizer_folder, seq_len=length - 2, val_fraction=0)


def test_too_few_conversations_are_refused(tmp_path, tokenizer_folder):
    path = write_conversations(tmp_path / "chat.jsonl", conversations()[:2])
    with pytest.raises(UserError, match="at least 9 records, one a shard, and the train split has"):
        make_records(tmp_path / "out", path, tokenizer_folder, num_shards=9)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_left_alone(tmp_path, chat_file, tokenizer_folder):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(UserError, match="must be new or empty"):
        make_records(tmp_path, chat_file, tokenizer_folder)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_records_of_conversations_keep_a_tokenizer_that_has_the_tokens_and_records_of_documents_refuse_it(
    tmp_path, made, chat_file
):
    folder, _ = made
    make_records(tmp_path / "again", chat_file, str(folder))
    assert Tokenizer.load(str(tmp_path / "again")).sha256 == Tokenizer.load(str(folder)).sha256
    with pytest.raises(UserError, match="a tokenizer without chat tokens"):
        make_tfrecords([chat_file], str(folder), str(tmp_path / "documents"), RecordOptions(text_key="messages"))


def test_items_go_to_the_first_row_with_room_and_few_rows_are_open():
    assert list(packed_rows([3, 4, 2, 1], 6)) == [[0, 2, 3], [1]]
    rows = list(packed_rows([4] * OPEN_ROWS + [4, 2], 6))
    assert rows[0] == [0], "it was closed before the last item, which would have fitted"
    assert rows[1] == [1, OPEN_ROWS + 1]


def test_options_out_of_their_range_are_refused():
    with pytest.raises(UserError, match="packing must be one of padded, whole, received 'stream'"):
        ChatRecordOptions(packing="stream")
    with pytest.raises(UserError, match="seq_len must be at least 1"):
        ChatRecordOptions(seq_len=0)
