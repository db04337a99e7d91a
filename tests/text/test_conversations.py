"""Lines of conversations: read in order, and refused with file and line."""

import gzip
import json

import pytest
from conversations import conversations, message, write_conversations

from algpt2.errors import UserError
from algpt2.text.conversations import conversation_files, read_conversations

SOUND = [message("user", "a"), message("assistant", "b")]


def read(path, on_fault=None):
    return [one for file in conversation_files([str(path)]) for one in read_conversations(file, on_fault)]


def test_conversations_are_read_in_order_with_their_places(tmp_path):
    path = tmp_path / "chat.jsonl"
    write_conversations(path)
    found = read(path)
    assert [[part._asdict() for part in one.messages] for one in found] == conversations()
    assert found[2].place == f"{path}, line 3"


def test_a_compressed_file_is_read_too_and_one_empty_line_at_the_end_is_no_conversation(tmp_path):
    path = tmp_path / "chat.jsonl.gz"
    path.write_bytes(gzip.compress(json.dumps({"messages": SOUND, "id": 7}).encode() + b"\n\n"))
    assert len(read(path)) == 1


WRONG = [
    ("not_json", '{"messages": [', "must be a JSON object"),
    ("not_json", "[]", "must be a JSON object"),
    ("not_json", "", "must be a JSON object"),
    ("without_messages", '{"text": "a"}', "list of messages by the key 'messages'"),
    ("without_messages", '{"messages": []}', "list of messages"),
    ("without_messages", '{"messages": "a"}', "list of messages"),
    ("wrong_role", json.dumps({"messages": [message("robot", "a")]}), "one of system, user, assistant, .* 'robot'"),
    ("wrong_role", json.dumps({"messages": [message(None, "a")]}), "one of system, user, assistant, .* None"),
    ("wrong_message", json.dumps({"messages": [message("user", 3)]}), "content must be a string, .* 3"),
    ("wrong_message", json.dumps({"messages": ["a"]}), "object of role and content, .* 'a'"),
    ("wrong_message", json.dumps({"messages": [{"role": "user"}]}), "object of role and content"),
    ("wrong_message", json.dumps({"messages": [{**SOUND[1], "tool": 1}]}), "object of role and content, .* 'tool'"),
    ("without_assistant", json.dumps({"messages": SOUND[:1]}), "a message of the assistant"),
    ("lone_surrogate", r'{"messages": [{"role": "assistant", "content": "a\ud800"}]}', "character 1 .* surrogate"),
]


@pytest.mark.parametrize(("kind", "line", "rule"), WRONG)
def test_what_is_no_conversation_is_refused_with_file_and_line_or_left_out_and_counted(tmp_path, kind, line, rule):
    path = tmp_path / "chat.jsonl"
    sound = json.dumps({"messages": SOUND})
    path.write_text(f"{sound}\n{line}\n{sound}\n")
    with pytest.raises(UserError, match=rule) as refused:
        read(path)
    assert f"{path}, line 2" in str(refused.value)
    faults = []
    assert len(read(path, faults.append)) == 2
    assert [fault.kind for fault in faults] == [kind]


def test_a_damaged_file_gives_what_stands_in_front_of_the_damage(tmp_path):
    path = tmp_path / "chat.jsonl.gz"
    whole = gzip.compress((json.dumps({"messages": SOUND}) + "\n").encode() * 2)
    path.write_bytes(whole[:-4])
    faults = []
    read(path, faults.append)
    assert [fault.kind for fault in faults] == ["damaged_file"]
    with pytest.raises(UserError, match=r"chat\.jsonl\.gz"):
        read(path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "chat.txt").write_text("a")
    with pytest.raises(UserError, match=r"must end in \.jsonl"):
        conversation_files([str(tmp_path / "chat.txt")])
