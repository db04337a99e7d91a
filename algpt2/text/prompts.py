"""Prompts of a file: one a line, or JSON lines with a key `prompt`."""

from algpt2.errors import UserError
from algpt2.text import documents

PROMPT_KEY = "prompt"


def read_prompts(path: str) -> list[str]:
    """Returns the prompts of a file, local or `gs://`.

    A `.jsonl` file holds one JSON object a line, whose `prompt` may have line ends or be empty. Of any other file each
    line is a prompt.

    Raises:
      UserError: no such file, nothing in it, not UTF-8, a line that is blank, or one without a prompt.
    """
    if path.endswith(documents.LINES_SUFFIX):
        found = documents.iterate_documents([path], documents.Keys(PROMPT_KEY))
        return [document.text for document in documents.require_documents(found)]
    lines = documents.read_text_file(path).replace("\r\n", "\n").removesuffix("\n").split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            raise UserError(
                f"each line of a file of prompts must be one, and line {number} of {path} is blank: drop it."
            )
    return lines
