"""Conversations as token ids: the template, and which of the ids a model is to learn.

The template is ChatML. Each message is `<|im_start|>`, its role, a line end, its content, `<|im_end|>` and a line end,
and a conversation begins with EOS, as every document does. Roles and contents are encoded by themselves, so that what
stands in front of a reply has the same ids in training and where a reply is asked for.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from algpt2.errors import UserError
from algpt2.text.tokenizer import Tokenizer
from algpt2.text.tokenizer_files import CHAT_TOKENS

ROLES = SYSTEM, USER, ASSISTANT = ("system", "user", "assistant")


class Message(NamedTuple):
    """What one side says: a role of `ROLES`, and text."""

    role: str
    content: str


class EncodedConversation(NamedTuple):
    """A conversation's ids, int32 (N,), and for each whether it is to be learnt, uint8 (N,): 0 or 1.

    To be learnt are the contents of the assistant's messages and the `<|im_end|>` behind each.
    """

    ids: np.ndarray
    weights: np.ndarray


class Template:
    """Conversations to ids, by a tokenizer that has the chat tokens.

    Raises:
      UserError: it lacks them.
    """

    def __init__(self, tokenizer: Tokenizer):
        if not tokenizer.has_chat_tokens:
            raise UserError(
                f"a chat needs a tokenizer with {' and '.join(CHAT_TOKENS)} behind its last token, and this one lacks "
                "them: take a model that was trained on records of data_tools/make_chat_tfrecords.py."
            )
        self._tokenizer = tokenizer
        self._begin_id, self.end_id = tokenizer.eos_id + 1, tokenizer.eos_id + 2
        self._roles = dict(zip(ROLES, tokenizer.encode_batch([f"{role}\n" for role in ROLES]), strict=True))
        self._line_end = tokenizer.encode("\n")

    def encode(self, messages: Sequence[Message]) -> EncodedConversation:
        """Returns the ids of a conversation, and which of them are to be learnt; it raises what `encode_batch` does."""
        return self.encode_batch([messages])[0]

    def encode_batch(self, conversations: Sequence[Sequence[Message]]) -> list[EncodedConversation]:
        """Returns `encode` of each conversation, computed on all CPU cores.

        Raises:
          UnicodeEncodeError: a content has a lone surrogate, which UTF-8 cannot spell.
        """
        contents = iter(self._tokenizer.encode_batch([one.content for messages in conversations for one in messages]))
        return [self._encoded(messages, contents) for messages in conversations]

    def _encoded(self, messages: Sequence[Message], contents: Iterator[list[int]]) -> EncodedConversation:
        """Takes the ids of the messages' contents from an iterator."""
        ids, weights = [self._tokenizer.eos_id], [0]
        for message in messages:
            head, body = self._head(message.role), [*next(contents), self.end_id]
            ids += [*head, *body, *self._line_end]
            weights += [*[0] * len(head), *[int(message.role == ASSISTANT)] * len(body), *[0] * len(self._line_end)]
        return EncodedConversation(np.array(ids, np.int32), np.array(weights, np.uint8))

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Returns the ids of a conversation up to where the assistant's next content begins."""
        return [*self.encode(messages).ids.tolist(), *self._head(ASSISTANT)]

    def _head(self, role: str) -> list[int]:
        return [self._begin_id, *self._roles[role]]


def content_bytes(messages: Iterable[Message]) -> int:
    """Returns the UTF-8 size of the contents of messages."""
    return sum(len(message.content.encode("utf-8")) for message in messages)
