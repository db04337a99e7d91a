"""What turns many texts into ids: the tokenizer itself, or a faster library that gives the same ids."""

import concurrent.futures
import importlib.util
import json
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from algpt2.config.records import GIGATOKEN
from algpt2.errors import UserError, shown
from algpt2.text.long_texts import encoded_in_parts, has_long
from algpt2.text.tokenizer import Tokenizer

MOST_CHECKED_CHARACTERS = 1 << 14
MOST_REMEMBERED_CHARACTERS = 1 << 25
# Every byte that UTF-8 can have, and the kinds of characters that GPT-2's pattern tells apart.
FIRST_TEXT = "".join(map(chr, [*range(0x800), 0x2028, 0x3000, 0xFFFD, 0x1F600, *range(0x10000, 0x110000, 0x8000)]))


class Encoder(Protocol):
    """Something that gives the ids of texts."""

    def encode_arrays(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ids of all texts, one after the other, uint32, and how many each has, uint32 (N,)."""


def create_encoder(name: str, tokenizer: Tokenizer) -> Encoder:
    """Returns the encoder of a name.

    Args:
      name: one of `algpt2.config.records.ENCODERS`.
      tokenizer: whose ids the encoder gives.

    Raises:
      UserError: the encoder's package is not installed, or it gives other ids.
    """
    return GigatokenEncoder(tokenizer) if name == GIGATOKEN else tokenizer


class GigatokenEncoder:
    """The library gigatoken on one core, compared with the tokenizer on the first text of each call.

    The library keeps every word that it has seen, about 90 bytes each, in its own object and in the thread that calls
    it. So both are made anew after `MOST_REMEMBERED_CHARACTERS`.

    Raises:
      UserError: the package is not installed, or it gives other ids than the tokenizer.
    """

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._thread: concurrent.futures.ThreadPoolExecutor | None = None
        self._begin_anew()
        self._check(FIRST_TEXT)

    def encode_arrays(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the ids of all texts, one after the other, uint32, and how many each has, uint32 (N,).

        Raises:
          UserError: the ids of the first text, or of the beginning of a long one, are not the tokenizer's.
        """
        if has_long(texts):
            return encoded_in_parts(self.encode_arrays, texts)
        if self._remembered_characters > MOST_REMEMBERED_CHARACTERS:
            self._begin_anew()
        self._remembered_characters += sum(map(len, texts))
        for text in texts[:1]:
            self._check(text[:MOST_CHECKED_CHARACTERS])
        return self._encode(texts)

    def _begin_anew(self) -> None:
        if self._thread is not None:
            self._thread.shutdown()
        self._library = _gigatoken(self._tokenizer)
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        self._remembered_characters = 0

    def _encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        import awkward

        # With parallel=False: the processes of a preparation share the cores.
        encoded = self._thread.submit(self._library.encode_batch, list(texts), parallel=False).result()
        lengths = awkward.to_numpy(awkward.num(encoded)).astype(np.uint32)
        return awkward.to_numpy(awkward.flatten(encoded)).astype(np.uint32, copy=False), lengths

    def _check(self, text: str) -> None:
        found, expected = self._encode([text])[0].tolist(), self._tokenizer.encode(text)
        if found != expected:
            raise UserError(
                "the encoder gigatoken must give the ids of the tokenizer, and gives others for the text "
                f"{shown(text)}: use --encoder tokenizers."
            )


def _gigatoken(tokenizer: Tokenizer) -> Any:
    """Returns the library's tokenizer, which does not know `<|endoftext|>`: typed in a text, it is ordinary."""
    if importlib.util.find_spec("gigatoken") is None:
        raise UserError(
            "the encoder gigatoken needs the package of that name, which is not installed: run "
            "`pip install 'algpt2[gigatoken]'`, or use --encoder tokenizers."
        )
    import gigatoken

    content = json.loads(tokenizer.to_json())
    return gigatoken.Tokenizer.from_json(json.dumps({**content, "added_tokens": []}))
