"""Files of examples, one a line: each line keeps its place, so that an error can name it."""

from typing import Any, NamedTuple

from algpt2.errors import UserError, shown
from algpt2.storage import json_files
from algpt2.text import documents


class PlacedLine(NamedTuple):
    """A line of a file, and the place that errors name, for example "valid.jsonl, line 3"."""

    place: str
    text: str


class PlacedObject(NamedTuple):
    """The JSON object of a line, and the place that errors name."""

    place: str
    fields: dict[str, Any]

    def text(self, key: str, may_be_blank: bool = False) -> str:
        """Returns the text of a key.

        Raises:
          UserError: it is missing, no text, or blank where that is not allowed.
        """
        return scorable_text(self.fields.get(key), f"{key!r}", self.place, may_be_blank)


def read_lines(path: str) -> list[PlacedLine]:
    """Returns the lines of a text file, local or `gs://`, without their line ends.

    Only a line feed ends a line, with or without a carriage return before it. One empty line may end the file.

    Raises:
      UserError: no such file, nothing in it, not UTF-8, or a blank line before its end.
    """
    texts = documents.read_text_file(path).split("\n")
    if len(texts) > 1 and not texts[-1].strip():
        texts.pop()
    lines = [PlacedLine(f"{path}, line {number}", text.removesuffix("\r")) for number, text in enumerate(texts, 1)]
    for line in lines:
        if not line.text.strip():
            raise UserError(f"every line must hold an example, and {line.place} is blank: delete it.")
    return lines


def read_objects(path: str) -> list[PlacedObject]:
    """Returns the JSON object of every line of a file.

    Raises:
      UserError: what `read_lines` refuses, or a line that is not a JSON object.
    """
    return [object_of(line) for line in read_lines(path)]


def object_of(line: PlacedLine) -> PlacedObject:
    """Returns the JSON object that a line is; raises `UserError` if it is none."""
    try:
        return PlacedObject(line.place, json_files.parse_object(line.text))
    except ValueError as error:
        raise UserError(f"every line must be a JSON object, and {line.place} is not ({error}): mend it.") from error


def scorable_text(text: Any, name: str, place: str, may_be_blank: bool = False) -> str:
    """Returns what a file gives for a text.

    Raises:
      UserError: it is no text, blank where that is not allowed, or holds what UTF-8 cannot spell.
    """
    if not isinstance(text, str):
        raise UserError(f"{name} must be a text, and in {place} it is {shown(text)}: mend it.")
    if not text.strip() and not may_be_blank:
        raise UserError(f"{name} must not be blank, and in {place} it is: mend it.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"{name} must be encodable as UTF-8, and in {place} character {error.start} is not: mend it."
        ) from error
    return text
