"""A chat: what was said so far, and what a model is given when a user says something."""

from algpt2.evaluation.generation import require_room, require_utf8
from algpt2.text.chat import ASSISTANT, SYSTEM, USER, Message, Template
from algpt2.text.tokenizer import Tokenizer


class ChatPrompts:
    """Gives the ids to which the assistant's reply is the continuation.

    Attributes:
      end_id: of the token behind a reply.
      messages: what was said so far, the system's message first if there is one.

    Raises:
      UserError: the tokenizer lacks the chat tokens, or the system's message is not Unicode text.
    """

    def __init__(self, tokenizer: Tokenizer, system: str | None = None):
        self._template = Template(tokenizer)
        self._beginning = [] if system is None else [Message(SYSTEM, system)]
        require_utf8(system or "")
        self.end_id = self._template.end_id
        self.messages = [*self._beginning]

    def ids(self, prompt: str, seq_len: int, n_new_tokens: int) -> list[int]:
        """Returns the ids of all that was said, and of a user's prompt, up to where the reply begins.

        Args:
          prompt: what the user says.
          seq_len: positions of the model.
          n_new_tokens: how many must fit in behind.

        Raises:
          UserError: the prompt is not Unicode text, or all together is too long.
        """
        require_utf8(prompt)
        ids = self._template.prompt_ids([*self.messages, Message(USER, prompt)])
        require_room(len(ids), seq_len, n_new_tokens)
        return ids

    def remember(self, prompt: str, reply: str) -> None:
        """Adds what a user said and the reply to it to what was said."""
        self.messages += [Message(USER, prompt), Message(ASSISTANT, reply)]

    def begin_anew(self) -> None:
        """Forgets what was said, but for the system's message."""
        self.messages = [*self._beginning]
