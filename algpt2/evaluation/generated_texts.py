"""Texts of many prompts, in batches or while they are made."""

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from algpt2.config.sampling import GenerationConfig, SamplingConfig
from algpt2.evaluation.chat import ChatPrompts
from algpt2.evaluation.generation import PIECE_TOKENS, CachedDecoder, Row, prompt_ids
from algpt2.text.tokenizer import Tokenizer

_UNFINISHED = "\ufffd"


class GeneratedText(NamedTuple):
    """One of the texts that were made of a prompt.

    Attributes:
      prompt: what is continued.
      sample: which text of this prompt it is, from 0.
      text: what follows the prompt.
      new_tokens: tokens of `text`.
      is_ended: whether the model ended it, before `max_new_tokens`.
    """

    prompt: str
    sample: int
    text: str
    new_tokens: int
    is_ended: bool


class TextGenerator:
    """Continues prompts. A text depends on its prompt, its sample and the seed, whatever else is made with it.

    Its speed counts neither compilation nor the time that a reader of `stream` takes.
    """

    def __init__(
        self,
        decoder: CachedDecoder,
        tokenizer: Tokenizer,
        sampling: SamplingConfig,
        generation: GenerationConfig,
        chat: ChatPrompts | None = None,
    ):
        """Takes what all texts share.

        Args:
          decoder: of the model.
          tokenizer: the one that the model was trained with.
          sampling: how tokens are drawn, and how many.
          generation: how many texts there are of a prompt, and how many are made at once.
          chat: makes of a prompt what a user says, to which a text is the reply; None continues prompts as documents.
        """
        self._chat = chat
        self._decoder = decoder
        self._tokenizer = tokenizer
        self._sampling = sampling
        self._generation = generation
        self._new_tokens, self._seconds = 0, 0.0

    def texts(self, prompts: Sequence[str]) -> list[GeneratedText]:
        """Returns the texts of all prompts, made in batches, those of one prompt side by side.

        Raises:
          UserError: a prompt is not Unicode text, or does not fit into the model's context with the new tokens.
        """
        ids = [self._ids(prompt) for prompt in prompts]
        wanted = [Row(row, sample) for row in ids for sample in range(self._generation.samples)]
        n_rows = min(self._generation.batch_size, len(wanted))
        self._decoder.least_tokens = max(map(len, ids)) + self._sampling.max_new_tokens
        continuations: list[list[int]] = []
        for start in range(0, len(wanted), n_rows):
            batch = wanted[start : start + n_rows]
            filled_up = [*batch, *[None] * (n_rows - len(batch))]
            (made,) = self._pieces(filled_up, self._sampling.max_new_tokens)
            continuations += made[: len(batch)]
        repeated = [prompt for prompt in prompts for _ in range(self._generation.samples)]
        return list(map(self._text, repeated, wanted, continuations))

    def stream(self, prompt: str, sample: int) -> Iterator[str]:
        """Returns one text in pieces, as soon as they are made; joined they are what `texts` gives.

        Raises:
          UserError: as `texts`, before the first piece is asked for.
        """
        return self._stream(Row(self._ids(prompt), sample))

    def _stream(self, row: Row) -> Iterator[str]:
        ids: list[int] = []
        shown = ""
        for (piece,) in self._pieces([row], PIECE_TOKENS):
            ids = self._before_special([*ids, *piece])
            # A character may lack bytes that the next token has; until then it is decoded as U+FFFD.
            whole = self._tokenizer.decode(ids).rstrip(_UNFINISHED)
            yield whole[len(shown) :]
            shown = whole
        yield self._tokenizer.decode(ids)[len(shown) :]

    def tokens_per_second(self) -> float:
        """Returns the speed of all texts so far; 0 before the first."""
        return self._new_tokens / self._seconds if self._seconds else 0.0

    def _ids(self, prompt: str) -> list[int]:
        seq_len = self._decoder.model.config.seq_len
        if self._chat is not None:
            return self._chat.ids(prompt, seq_len, self._sampling.max_new_tokens)
        return prompt_ids(self._tokenizer, prompt, seq_len, self._sampling.max_new_tokens)

    def _pieces(self, rows: list[Row | None], piece_tokens: int) -> Iterator[list[list[int]]]:
        """Yields the pieces of rows, and counts their tokens and seconds."""
        call = (rows, self._chat.end_id if self._chat else self._tokenizer.eos_id, self._sampling)
        self._decoder.compile(*call)
        pieces = self._decoder.pieces(*call, piece_tokens)
        while True:
            began = time.perf_counter()
            piece = next(pieces, None)
            if piece is None:
                return
            self._seconds += time.perf_counter() - began
            self._new_tokens += sum(map(len, piece))
            yield piece

    def _before_special(self, ids: list[int]) -> list[int]:
        """Returns the ids up to the first that spells nothing: one that a chat does not end with may be drawn in it."""
        return list(itertools.takewhile(lambda id_: id_ < self._tokenizer.eos_id, ids))

    def _text(self, prompt: str, row: Row, ids: list[int]) -> GeneratedText:
        ids = self._before_special(ids)
        is_ended = len(ids) < self._sampling.max_new_tokens
        return GeneratedText(prompt, row.sample, self._tokenizer.decode(ids), len(ids), is_ended)
