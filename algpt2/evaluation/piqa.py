"""PIQA (Bisk et al. 2020): which of two solutions reaches an everyday goal."""

from collections.abc import Sequence

from algpt2.errors import UserError, shown
from algpt2.evaluation.continuations import encode_together
from algpt2.evaluation.example_files import PlacedLine, read_lines, read_objects
from algpt2.evaluation.multiple_choice import ChoiceScores, Question, pairs_of, score_choices
from algpt2.evaluation.scorer import Scorer
from algpt2.evaluation.zero_shot import ZeroShotProtocol
from algpt2.text.tokenizer import Tokenizer

PROTOCOL = ZeroShotProtocol(
    "harness",
    "lm-evaluation-harness, task piqa: 'Question: goal', a line end and 'Answer:', each solution behind a space, "
    "encoded with it as one text; no token in front; acc_norm there is acc_norm_characters here",
    {},
    "",
)


def read_questions(path: str, labels_path: str) -> list[Question]:
    """Returns the questions of `valid.jsonl`, with the labels of `valid-labels.lst`, as they are scored.

    Raises:
      UserError: a file is missing, a line of it is no question or no label 0 or 1, or the files have different lengths.
    """
    goals = read_objects(path)
    labels = [_label(line) for line in read_lines(labels_path)]
    if len(goals) != len(labels):
        raise UserError(
            f"each question must have a label, and {path} has {len(goals)} questions and {labels_path} "
            f"{len(labels)} labels: name two files of one split."
        )
    return [
        Question(f"Question: {line.text('goal')}\nAnswer:", (line.text("sol1"), line.text("sol2")), label)
        for line, label in zip(goals, labels, strict=True)
    ]


def evaluate_piqa(scorer: Scorer, tokenizer: Tokenizer, questions: Sequence[Question]) -> ChoiceScores:
    """Returns what the model gives to every solution.

    Args:
      scorer: of the model.
      tokenizer: the one that the model was trained with.
      questions: at least one.

    Raises:
      UserError: a solution is longer than the model has positions.
    """
    return score_choices(scorer, questions, encode_together(tokenizer, pairs_of(questions)))


def _label(line: PlacedLine) -> int:
    if line.text.strip() not in ("0", "1"):
        raise UserError(f"a label must be 0 or 1, and {line.place} is {shown(line.text)}: mend it.")
    return int(line.text)
