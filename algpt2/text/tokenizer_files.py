"""The file formats of a GPT-2 tokenizer: `tokenizer.json`, `vocab.json` + `merges.txt`, or OpenAI's own names."""

import dataclasses
from typing import Any

from tokenizers import pre_tokenizers

from algpt2 import storage
from algpt2.errors import UserError, shown
from algpt2.storage import json_files

EOS_TOKEN = "<|endoftext|>"
CHAT_TOKENS = IM_START, IM_END = ("<|im_start|>", "<|im_end|>")
MERGES_HEADER = "#version: 0.2"
TOKENIZER_NAME = "tokenizer.json"
VOCAB_AND_MERGES_NAMES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))

Vocab = dict[str, int]
Merges = list[tuple[str, str]]


def read(folder: str) -> tuple[Vocab, Merges]:
    """Returns the vocabulary, `<|endoftext|>` included, and the merges of a folder, local or `gs://`.

    Raises:
      UserError: the files are missing, are not JSON, or are of another kind of tokenizer.
    """
    path = storage.join(folder, TOKENIZER_NAME)
    if storage.exists(path):
        return _read_tokenizer_json(path)
    for vocab_name, merges_name in VOCAB_AND_MERGES_NAMES:
        paths = storage.join(folder, vocab_name), storage.join(folder, merges_name)
        if all(storage.exists(path) for path in paths):
            return _read_vocab_json(paths[0]), _parse_merges(_read_text(paths[1]), paths[1])
    forms = " or ".join(f"{vocab} and {merges}" for vocab, merges in VOCAB_AND_MERGES_NAMES)
    raise UserError(
        f"a tokenizer folder must hold {TOKENIZER_NAME}, or {forms}, and {folder} does not: "
        "make one with data_tools/train_tokenizer.py."
    )


def check_vocab(vocab: Vocab) -> None:
    """Raises `UserError` unless ids are 0 to N-1 and the tokens spell all bytes.

    The last must be `<|endoftext|>`, or the two chat tokens right behind it.
    """
    if sorted(vocab.values()) != list(range(len(vocab))):
        raise UserError(f"a vocabulary's ids must be 0 to {len(vocab) - 1}, each once: use the original files.")
    tokens = sorted(vocab, key=vocab.__getitem__)
    if tokens[-1:] != [EOS_TOKEN] and tokens[-3:] != [EOS_TOKEN, *CHAT_TOKENS]:
        raise UserError(
            f"{EOS_TOKEN} must have the last id, {len(vocab) - 1}, as in GPT-2, and it has {vocab.get(EOS_TOKEN)}: "
            "use GPT-2's tokenizer or one made by data_tools/train_tokenizer.py."
        )
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    if not alphabet <= vocab.keys() or not alphabet.issuperset("".join(vocab.keys())):
        raise UserError(
            "a byte-level vocabulary must have a token for each of the 256 bytes and be spelt in GPT-2's byte "
            "alphabet, and this one is not: use GPT-2's tokenizer or one made by data_tools/train_tokenizer.py."
        )


def parse_model(model: dict[str, Any]) -> tuple[Vocab, Merges]:
    """Returns the vocabulary and merges of the `model` of a `tokenizer.json`, in either way merges are written."""
    pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
    return dict(model["vocab"]), [(left, right) for left, right in pairs]


def eos_id_of(tokenizer_json: bytes) -> int:
    """Returns the id of `<|endoftext|>` in the content of a `tokenizer.json`."""
    added_tokens = json_files.parse_object(tokenizer_json)["added_tokens"]
    return next(token["id"] for token in added_tokens if token["content"] == EOS_TOKEN)


@dataclasses.dataclass(frozen=True)
class _AddedToken:
    id: int
    content: str


@dataclasses.dataclass(frozen=True)
class _Parts:
    """What a vocabulary and its merges are made of. A merge is a string with a space, or a list of two strings."""

    vocab: dict[str, int]
    merges: tuple[Any, ...] = ()
    added_tokens: tuple[_AddedToken, ...] = ()


def _read_tokenizer_json(path: str) -> tuple[Vocab, Merges]:
    with json_files.refusing(path, "be a tokenizer.json as the tokenizers library writes it", "make it again"):
        fields = json_files.load_object(path)
        parts = _parts(fields)
        merges = [_pair(merge) for merge in parts.merges]
    if not _is_gpt2(fields):
        raise UserError(
            f"a tokenizer must be byte-level BPE as GPT-2's (no normalizer, no prefix space), and {path} is not: "
            "use GPT-2's or one made by data_tools/train_tokenizer.py."
        )
    return {**parts.vocab, **{token.content: token.id for token in parts.added_tokens}}, merges


def _parts(fields: dict[str, Any]) -> _Parts:
    """Returns the parts of a `tokenizer.json` that are read; raises `ValueError` if one is of another kind."""
    model, tokens = fields.get("model"), fields.get("added_tokens")
    if not isinstance(model, dict):
        raise ValueError("its model is not an object")
    if not isinstance(tokens, list) or not all(isinstance(token, dict) for token in tokens):
        raise ValueError("its added_tokens is not a list of objects")
    added = [{"id": token.get("id"), "content": token.get("content")} for token in tokens]
    return json_files.build(_Parts, {"vocab": model.get("vocab"), "merges": model.get("merges"), "added_tokens": added})


def _pair(merge: Any) -> tuple[str, str]:
    match merge.split(" ") if isinstance(merge, str) else merge:
        case [str(left), str(right)]:
            return left, right
    raise ValueError(f"one of its merges is {shown(merge)}, not two tokens")


def _is_gpt2(fields: dict[str, Any]) -> bool:
    model, splitter = fields["model"], fields.get("pre_tokenizer")
    return (
        model.get("type", "BPE") == "BPE"
        and not model.get("dropout")
        and not model.get("ignore_merges")
        and fields.get("normalizer") is None
        and isinstance(splitter, dict)
        and splitter.get("type") == "ByteLevel"
        and not splitter.get("add_prefix_space")
        and splitter.get("use_regex", True)
    )


def _parse_merges(text: str, path: str) -> Merges:
    lines = text.split("\n")
    first = 1 if lines[0].startswith("#version") else 0
    merges = [tuple(line.split(" ")) for line in lines[first:] if line]
    if any(len(merge) != 2 for merge in merges):
        raise UserError(f"every line of {path} must be two tokens with a space between, and one is not: mend it.")
    return merges


def _read_vocab_json(path: str) -> Vocab:
    with json_files.refusing(path, "be a JSON object of tokens and their ids", "make it again"):
        return json_files.build(_Parts, {"vocab": json_files.load_object(path)}).vocab


def _read_text(path: str) -> str:
    try:
        return storage.read_text(path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} must be UTF-8 and is not ({error}): make it again.") from error
