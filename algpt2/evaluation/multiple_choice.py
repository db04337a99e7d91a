"""Questions with given answers: the likeliest one is the model's."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from algpt2.evaluation.continuations import Continuation, ContinuationScores, score_continuations
from algpt2.evaluation.scorer import Scorer
from algpt2.evaluation.zero_shot import standard_error


@dataclasses.dataclass(frozen=True)
class Question:
    """A text, the texts that may continue it, and which of them is right, counted from 0."""

    context: str
    choices: tuple[str, ...]
    label: int


@dataclasses.dataclass(frozen=True)
class ChoiceScores:
    """What a model gives to every choice of every question, which all have the same number of choices.

    Attributes:
      choices: the scores of all choices, question by question.
      characters: int (questions, choices), the length of each choice in Unicode characters.
      labels: int (questions,), the right choices.
    """

    choices: ContinuationScores
    characters: np.ndarray
    labels: np.ndarray

    @property
    def nats(self) -> np.ndarray:
        """The negative log-likelihood of each choice, float64 (questions, choices)."""
        return self.choices.nats.reshape(self.characters.shape)

    @property
    def tokens(self) -> np.ndarray:
        """The scored tokens of each choice, int (questions, choices)."""
        return self.choices.tokens.reshape(self.characters.shape)

    def answers(self, lengths: np.ndarray | None = None) -> np.ndarray:
        """Returns the choice of least nats, or of least nats per unit of `lengths`, int (questions,).

        The first of several equal ones is the answer. A choice of length 0 is not, if another has a length.
        """
        with np.errstate(divide="ignore"):
            return np.argmin(self.nats if lengths is None else self.nats / lengths, axis=1)

    def figures(self) -> dict[str, float | None]:
        """Returns the share of right answers, by nats and by nats per character and per token, with standard errors."""
        lengths = {"acc": None, "acc_norm_characters": self.characters, "acc_norm_tokens": self.tokens}
        figures: dict[str, float | None] = {}
        for name, units in lengths.items():
            accuracy = float(np.mean(self.answers(units) == self.labels))
            figures |= {name: accuracy, f"{name}_stderr": standard_error(accuracy, len(self.labels))}
        return figures

    def counts(self) -> dict[str, int]:
        """Returns how much was scored."""
        return {"questions": len(self.labels), **self.choices.counts()}


def score_choices(scorer: Scorer, questions: Sequence[Question], continuations: Sequence[Continuation]) -> ChoiceScores:
    """Returns the scores of all choices.

    Args:
      scorer: of the model.
      questions: all with the same number of choices.
      continuations: of every choice of every question, in order.

    Raises:
      UserError: a choice is longer than the model has positions.
    """
    characters = [[len(choice) for choice in question.choices] for question in questions]
    labels = [question.label for question in questions]
    return ChoiceScores(score_continuations(scorer, continuations), np.array(characters), np.array(labels))


def pairs_of(questions: Sequence[Question]) -> list[tuple[str, str]]:
    """Returns (context, choice with a space in front) of every choice of every question, in order."""
    return [(question.context, " " + choice) for question in questions for choice in question.choices]
