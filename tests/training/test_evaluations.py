"""Evaluations of a model in training: when they are due, and where what they find goes."""

from pathlib import Path

import pytest
from tiny_run import kill_at, tiny_run, train_tiny

from algpt2.tracking.metrics import EvaluationResult, read_metrics
from algpt2.training import loop
from algpt2.training.evaluations import Evaluation, create_evaluations

QUIZ = EvaluationResult(["accuracy 0.5"], metrics={"quiz_accuracy": 0.5})


def evaluation(every_steps):
    return Evaluation("quiz", every_steps, lambda: QUIZ)


def test_an_evaluation_is_due_at_its_period_and_at_the_end():
    due = [step for step in range(1, 12) if evaluation(4).is_due(step, total_steps=11)]
    assert due == [4, 8, 11]
    assert [evaluation(4).steps_until_due(step) for step in (0, 3, 4)] == [4, 1, 4]


def test_an_evaluation_of_checkpoints_is_due_at_no_step_of_its_own():
    assert not any(evaluation(None).is_due(step, total_steps=11) for step in range(1, 12))
    assert evaluation(None).steps_until_due(3) is None


@pytest.fixture
def run_with_quiz(records_folder, tmp_path, monkeypatch):
    """A run that stops at steps 2, 3, 4, 6, 8, 9 and 10, and has a quiz at 7 and 10 besides."""
    monkeypatch.setattr(loop, "create_evaluations", lambda *parts: (*create_evaluations(*parts), evaluation(7)))
    return tiny_run(records_folder, tmp_path)


def test_a_further_evaluation_needs_only_its_place_in_the_list(run_with_quiz, caplog):
    """It stops the steps where it is due, is logged, shares the line of its step, and is in the result."""
    with caplog.at_level("INFO"):
        result = train_tiny(run_with_quiz)
    found = [line for line in read_metrics(run_with_quiz.model_dir) if "quiz_accuracy" in line]
    assert found[0] == {"step": 7, "quiz_accuracy": 0.5}
    assert (found[1]["step"], found[1]["val_loss"]) == (10, result["val_loss"])
    assert len(found) == 2
    assert result["quiz_accuracy"] == 0.5
    logged = [record.getMessage() for record in caplog.records if "quiz" in record.getMessage()]
    assert logged == ["step 7  quiz accuracy 0.5", "step 10  quiz accuracy 0.5"]


def test_a_finished_run_without_a_result_is_evaluated_again_and_nothing_is_written_twice(run_with_quiz, monkeypatch):
    result = train_tiny(run_with_quiz)
    metrics = read_metrics(run_with_quiz.model_dir)
    result_file = Path(run_with_quiz.model_dir) / "result.json"
    result_file.unlink()
    kill_at(monkeypatch, 0)
    again = train_tiny(run_with_quiz)
    assert result_file.exists()
    assert (again["val_loss"], again["quiz_accuracy"]) == (result["val_loss"], 0.5)
    assert read_metrics(run_with_quiz.model_dir) == metrics
