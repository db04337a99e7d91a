"""HellaSwag (Zellers et al. 2019): which of four endings continues a text."""

import dataclasses
import re
from collections.abc import Callable, Sequence

from algpt2.errors import UserError, shown
from algpt2.evaluation import published
from algpt2.evaluation.continuations import Continuation, encode_apart, encode_together
from algpt2.evaluation.example_files import PlacedObject, read_objects, scorable_text
from algpt2.evaluation.multiple_choice import ChoiceScores, Question, pairs_of, score_choices
from algpt2.evaluation.scorer import Scorer
from algpt2.evaluation.zero_shot import ZeroShotProtocol
from algpt2.text.tokenizer import Tokenizer

ENDINGS = 4
BRACKETS = re.compile(r"\[.*?\]")


@dataclasses.dataclass(frozen=True)
class HellaSwagQuestion:
    """A line of `hellaswag_val.jsonl`; each field is the file's."""

    activity_label: str
    ctx_a: str
    ctx_b: str
    ctx: str
    endings: tuple[str, ...]
    label: int


@dataclasses.dataclass(frozen=True)
class HellaSwagProtocol(ZeroShotProtocol):
    """How a question becomes the tokens that are scored.

    Attributes:
      render: from the file's question to the texts that are scored.
      encode: from a tokenizer and those texts to ids.
    """

    render: Callable[[HellaSwagQuestion], Question]
    encode: Callable[[Tokenizer, Sequence[tuple[str, str]]], list[Continuation]]


def harness_question(question: HellaSwagQuestion) -> Question:
    """Returns the texts of lm-evaluation-harness: "activity: ctx_a Ctx_b", without the brackets of WikiHow."""
    context = f"{question.activity_label}: {question.ctx_a} {question.ctx_b.capitalize()}"
    return Question(_without_brackets(context), tuple(map(_without_brackets, question.endings)), question.label)


def completion_question(question: HellaSwagQuestion) -> Question:
    """Returns the texts as the file has them: `ctx` and the endings."""
    return Question(question.ctx, question.endings, question.label)


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        HellaSwagProtocol(
            "harness",
            "lm-evaluation-harness, task hellaswag: 'activity_label: ctx_a ctx_b' with ctx_b capitalised, ' [title]' "
            "made '. ', other brackets and double spaces taken out; each ending behind a space, context and ending "
            "encoded as one text; no token in front; acc_norm there is acc_norm_characters here",
            published.HELLASWAG_HARNESS,
            f"lm-evaluation-harness's figures, as quoted in {published.BUILD_NANOGPT}",
            harness_question,
            encode_together,
        ),
        HellaSwagProtocol(
            "completion",
            "build-nanogpt's hellaswag.py: ctx as the file has it, each ending behind a space, both encoded apart; no "
            "token in front; acc by the sum of the ending's nats, and its acc_norm, by their mean over the ending's "
            "tokens, is acc_norm_tokens here",
            published.HELLASWAG_COMPLETION,
            published.BUILD_NANOGPT,
            completion_question,
            encode_apart,
        ),
    )
}


def read_questions(path: str) -> list[HellaSwagQuestion]:
    """Returns the questions of a file in the official format, such as `hellaswag_val.jsonl`.

    Raises:
      UserError: no such file, or a line of it is no question with four endings and the right one's number; the sentence
        names the line.
    """
    return [_question(line) for line in read_objects(path)]


def evaluate_hellaswag(
    scorer: Scorer, tokenizer: Tokenizer, questions: Sequence[HellaSwagQuestion], protocol: HellaSwagProtocol
) -> ChoiceScores:
    """Returns what the model gives to every ending.

    Args:
      scorer: of the model.
      tokenizer: the one that the model was trained with.
      questions: at least one.
      protocol: one of `PROTOCOLS`.

    Raises:
      UserError: an ending is longer than the model has positions.
    """
    rendered = [protocol.render(question) for question in questions]
    return score_choices(scorer, rendered, protocol.encode(tokenizer, pairs_of(rendered)))


def _without_brackets(text: str) -> str:
    """Returns a text as lm-evaluation-harness cleans it of what WikiHow's pages left in it; the order matters."""
    text = text.strip().replace(" [title]", ". ")
    return BRACKETS.sub("", text).replace("  ", " ")


def _question(line: PlacedObject) -> HellaSwagQuestion:
    endings, label = line.fields.get("endings"), line.fields.get("label")
    if not isinstance(endings, list) or len(endings) != ENDINGS:
        raise UserError(
            f"'endings' must be a list of {ENDINGS} texts, and in {line.place} it is {shown(endings)}: mend it."
        )
    if type(label) is not int or not 0 <= label < ENDINGS:
        raise UserError(
            f"'label' must be the number of the right ending, from 0 to {ENDINGS - 1}, and in {line.place} it is "
            f"{shown(label)}: take a split with labels, such as hellaswag_val.jsonl."
        )
    return HellaSwagQuestion(
        activity_label=line.text("activity_label"),
        ctx_a=line.text("ctx_a", may_be_blank=True),
        ctx_b=line.text("ctx_b", may_be_blank=True),
        ctx=line.text("ctx"),
        endings=tuple(scorable_text(e, f"ending {i}", line.place) for i, e in enumerate(endings)),
        label=label,
    )
