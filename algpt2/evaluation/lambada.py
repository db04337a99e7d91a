"""LAMBADA (Paperno et al. 2016): the last word of a passage, which only the whole passage tells."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from algpt2.errors import UserError, shown
from algpt2.evaluation import published
from algpt2.evaluation.continuations import Continuation, ContinuationScores, encode_together, score_continuations
from algpt2.evaluation.example_files import PlacedLine, object_of, read_lines
from algpt2.evaluation.scorer import Scorer
from algpt2.evaluation.scores import perplexity
from algpt2.evaluation.zero_shot import ZeroShotProtocol, standard_error
from algpt2.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class LambadaProtocol(ZeroShotProtocol):
    """What of a passage is scored.

    Attributes:
      encode: from a tokenizer and passages to what is scored of each.
    """

    encode: Callable[[Tokenizer, Sequence[str]], list[Continuation]]


@dataclasses.dataclass(frozen=True)
class LastWordScores:
    """What a model gives to the end of every passage."""

    ends: ContinuationScores

    def figures(self) -> dict[str, float | None]:
        """Returns the share of passages that end greedily, with its standard error, and exp(mean nats of an end)."""
        accuracy, n = float(np.mean(self.ends.is_greedy)), len(self.ends.nats)
        return {
            "acc": accuracy,
            "acc_stderr": standard_error(accuracy, n),
            "perplexity": perplexity(float(self.ends.nats.sum()), n),
        }

    def counts(self) -> dict[str, int]:
        """Returns how much was scored."""
        return {"passages": len(self.ends.nats), **self.ends.counts()}


def encode_last_words(tokenizer: Tokenizer, passages: Sequence[str]) -> list[Continuation]:
    """Returns what lm-evaluation-harness scores: all tokens of what follows the last space."""
    pairs = [passage.rpartition(" ") for passage in passages]
    return encode_together(tokenizer, [(context, " " + word) for context, _, word in pairs])


def encode_last_tokens(tokenizer: Tokenizer, passages: Sequence[str]) -> list[Continuation]:
    """Returns the last token of each passage, behind all others."""
    return [Continuation(tuple(ids[:-1]), tuple(ids[-1:])) for ids in tokenizer.encode_batch(passages)]


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        LambadaProtocol(
            "harness",
            "lm-evaluation-harness, task lambada_openai: what follows the last space, that space too; right if each "
            "of its tokens is the likeliest; perplexity is exp of the mean nats of a whole word; no token in front",
            published.LAMBADA_HARNESS,
            published.HARNESS_ISSUE,
            encode_last_words,
        ),
        LambadaProtocol(
            "last_token",
            "the last token of the passage instead of its last word, which it often ends only; right if it is the "
            "likeliest; perplexity is exp of the mean nats of that token; no stop-word filter; no token in front",
            published.LAMBADA_LAST_TOKEN,
            "GPT-2's paper, table 3, whose protocol was never published whole: section 3.3 speaks of a stop-word "
            "filter and gives no list, and that only the last token counts was found by trial (openai/gpt-2, issue "
            "131: 46.89 without a filter); so this is near the paper's protocol and not known to be it",
            encode_last_tokens,
        ),
    )
}


def read_passages(path: str) -> list[str]:
    """Returns the passages of a file: JSON lines {"text": ...} if it begins with a brace, else plain text, one a line.

    Raises:
      UserError: no such file, or a line of it is no passage of two words or more; the sentence names the line.
    """
    lines = read_lines(path)
    if lines[0].text.startswith("{"):
        lines = [PlacedLine(line.place, object_of(line).text("text")) for line in lines]
    else:
        lines = [PlacedLine(line.place, line.text.strip()) for line in lines]
    return [_passage(line) for line in lines]


def evaluate_lambada(
    scorer: Scorer, tokenizer: Tokenizer, passages: Sequence[str], protocol: LambadaProtocol
) -> LastWordScores:
    """Returns what the model gives to the end of every passage.

    Args:
      scorer: of the model.
      tokenizer: the one that the model was trained with.
      passages: at least one, each of two words or more.
      protocol: one of `PROTOCOLS`.

    Raises:
      UserError: a last word is longer than the model has positions.
    """
    return LastWordScores(score_continuations(scorer, protocol.encode(tokenizer, passages)))


def _passage(line: PlacedLine) -> str:
    context, _, last_word = line.text.rpartition(" ")
    if not context.strip() or not last_word.strip():
        raise UserError(
            f"a passage must have two words or more and end with the last one, and {line.place} is {shown(line.text)}: "
            "mend it."
        )
    return line.text
