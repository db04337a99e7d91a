"""Files of conversations: JSON lines of `{"messages": [{"role": ..., "content": ...}, ...]}`, perhaps compressed."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

from algpt2 import storage
from algpt2.errors import UserError, shown
from algpt2.storage import json_files
from algpt2.text import faults
from algpt2.text.chat import ASSISTANT, ROLES, Message
from algpt2.text.decompression import open_decompressed
from algpt2.text.faults import InputFault, OnFault, kept
from algpt2.text.input_files import LINES_SUFFIX, InputFile, sized_input_files, suffixes
from algpt2.text.lines import without_last_empty
from algpt2.text.long_texts import require_breaks

MESSAGES_KEY = "messages"
MESSAGE_KEYS = ("role", "content")
WITHOUT_MESSAGES, WRONG_MESSAGE, WRONG_ROLE = "without_messages", "wrong_message", "wrong_role"
WITHOUT_ASSISTANT, TOO_LONG = "without_assistant", "too_long"


class Conversation(NamedTuple):
    """The messages of a line, and where it stands, as in `chat.jsonl, line 3`."""

    messages: tuple[Message, ...]
    file: str
    place: str


def conversation_files(paths: Sequence[str]) -> list[InputFile]:
    """Returns the files that `paths` name, each of which must hold JSON lines.

    Raises:
      UserError: nothing at a path, a file of another kind, or a package that its compression needs is not installed.
    """
    files = sized_input_files(paths)
    for file in files:
        if suffixes(file.path)[0] != LINES_SUFFIX:
            raise UserError(
                f"a file of conversations must end in {LINES_SUFFIX}, or that and a compression's ending, and "
                f"{file.path} does not: name another."
            )
    return files


def read_conversations(file: InputFile, on_fault: OnFault | None) -> Iterator[Conversation]:
    """Yields the conversations of a file, in order.

    Args:
      file: JSON lines, on disk or gs://.
      on_fault: called with what is no conversation, which is then left out; None means that it is raised.

    Raises:
      InputFault: a line is no JSON object, has no messages, has one with a wrong key or role, or has none of the
        assistant's; or the file is damaged.
    """
    compression = suffixes(file.path)[1]
    with storage.of(file.path).open_read(file.path) as stored:
        stream = open_decompressed(stored, compression, file.path) if compression else stored
        yield from _whole_lines(file.path, stream, on_fault)


def _whole_lines(file: str, stream: BinaryIO, on_fault: OnFault | None) -> Iterator[Conversation]:
    try:
        for number, line in enumerate(without_last_empty(stream), start=1):
            yield from kept(on_fault, _conversation, line, file, f"{file}, line {number}")
    except InputFault as fault:
        if on_fault is None or fault.kind != faults.DAMAGED_FILE:
            raise
        on_fault(fault)


def _conversation(line: bytes, file: str, place: str) -> Conversation:
    def refuse(kind: str, sentence: str) -> InputFault:
        return InputFault(kind, file, f"{sentence}: mend it.")

    try:
        fields = json_files.parse_object(line)
    except ValueError as error:
        raise refuse(faults.NOT_JSON, f"every line must be a JSON object, and {place} is not ({error})") from error
    found = fields.get(MESSAGES_KEY)
    if not isinstance(found, list) or not found:
        rule = f"every conversation must have a list of messages by the key {MESSAGES_KEY!r}"
        raise refuse(WITHOUT_MESSAGES, f"{rule}, and {place} has none")
    messages = tuple(_message(one, file, place, refuse) for one in found)
    if all(message.role != ASSISTANT for message in messages):
        rule = f"every conversation must have a message of the {ASSISTANT}, which is what a model learns"
        raise refuse(WITHOUT_ASSISTANT, f"{rule}, and {place} has none")
    return Conversation(messages, file, place)


def _message(fields: Any, file: str, place: str, refuse: Callable[[str, str], InputFault]) -> Message:
    if not isinstance(fields, dict) or sorted(fields) != sorted(MESSAGE_KEYS):
        rule = f"every message must be an object of {' and '.join(MESSAGE_KEYS)}"
        raise refuse(WRONG_MESSAGE, f"{rule}, and {place} has {shown(fields)}")
    role, content = (fields[key] for key in MESSAGE_KEYS)
    if role not in ROLES:
        raise refuse(WRONG_ROLE, f"a message's role must be one of {', '.join(ROLES)}, and {place} has {shown(role)}")
    if not isinstance(content, str):
        raise refuse(WRONG_MESSAGE, f"a message's content must be a string, and {place} has {shown(content)}")
    try:
        content.encode("utf-8")
    except UnicodeEncodeError as error:
        rule = (
            f"a content must be encodable as UTF-8, and in {place} character {error.start} of one is a lone surrogate"
        )
        raise refuse(faults.LONE_SURROGATE, rule) from error
    require_breaks(content, file, place)
    return Message(role, content)
