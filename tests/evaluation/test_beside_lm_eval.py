"""Zero-shot evaluations beside lm-evaluation-harness itself, with the same model and files, question by question.

They run where lm_eval, PyTorch, transformers and accelerate are installed.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import zero_shot_files
from tiny_checkpoints import TRAIN_CONFIG

lm_eval = pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")
pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("accelerate", reason="accelerate is not installed")

from lm_eval.tasks import TaskManager  # noqa: E402

from algpt2.checkpoints.folder import CheckpointState  # noqa: E402
from algpt2.checkpoints.save_load import save_checkpoint, take_snapshot  # noqa: E402
from algpt2.evaluation import hellaswag, lambada, piqa  # noqa: E402
from algpt2.evaluation.scorer import Scorer  # noqa: E402
from algpt2.optim.create import create_optimizer  # noqa: E402


@pytest.fixture(scope="module")
def tokenizer():
    return zero_shot_files.word_tokenizer()


@pytest.fixture(scope="module")
def scorer(tokenizer):
    return Scorer(zero_shot_files.word_model(tokenizer), batch_size=3, jit_compile=False)


@pytest.fixture(scope="module")
def theirs(scorer, tokenizer, tmp_path_factory):
    """The same model, saved by us and loaded by transformers, as lm-evaluation-harness runs it."""
    from lm_eval.models.huggingface import HFLM

    folder = tmp_path_factory.mktemp("checkpoint")
    tokenizer.save(str(folder))
    state = CheckpointState(1, 1, TRAIN_CONFIG.to_dict(), "abc", 1)
    snapshot = take_snapshot(scorer.model, create_optimizer(TRAIN_CONFIG, scorer.model))
    save_checkpoint(str(folder), snapshot, state, (folder / "tokenizer.json").read_bytes())
    return HFLM(pretrained=str(folder), device="cpu", batch_size=2)


@pytest.fixture
def samples_of(theirs, tmp_path):
    """Runs a task of lm-evaluation-harness on a file in the place of its data set; returns its results and samples."""

    def samples_of(task, split, lines):
        (tmp_path / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        own_yaml = next(Path(lm_eval.__file__).parent.glob(f"tasks/*/{task}.yaml"))
        local = {
            **{"include": str(own_yaml), "task": task, "dataset_path": "json", "dataset_name": None},
            **{"training_split": None, "validation_split": None, "test_split": None, f"{split}_split": split},
            "dataset_kwargs": {
                "data_files": {split: str(tmp_path / "data.jsonl")},
                "cache_dir": str(tmp_path / "cache"),
            },
        }
        (tmp_path / f"{task}.yaml").write_text(json.dumps(local))  # JSON is YAML
        manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
        outcome = lm_eval.simple_evaluate(theirs, tasks=[task], task_manager=manager, bootstrap_iters=0)
        return outcome["results"][task], outcome["samples"][task]

    return samples_of


def require_equal(scores, samples):
    """Every text's nats, and whether it is greedy, are those of lm-evaluation-harness, but for float32's rounding."""
    answers = [answer for sample in samples for ((answer),) in sample["resps"]]
    np.testing.assert_allclose(scores.nats, [-log_likelihood for log_likelihood, _ in answers], rtol=1e-5, atol=1e-4)
    assert scores.is_greedy.tolist() == [is_greedy for _, is_greedy in answers]


def test_lambada_is_that_of_the_harness_passage_by_passage(samples_of, scorer, tokenizer):
    passages = list(zero_shot_files.PASSAGES)
    results, samples = samples_of("lambada_openai", "test", [{"text": passage} for passage in passages])
    scores = lambada.evaluate_lambada(scorer, tokenizer, passages, lambada.PROTOCOLS["harness"])
    require_equal(scores.ends, samples)
    assert 0 < scores.figures()["acc"] == results["acc,none"] < 1
    assert scores.figures()["perplexity"] == pytest.approx(results["perplexity,none"], rel=1e-5)
    assert scores.counts()["cut_contexts"] == 1


def require_equal_choices(scores, results, samples):
    """Every choice's nats and every question's answer are those of lm-evaluation-harness."""
    require_equal(scores.choices, samples)
    assert (scores.answers() == scores.labels).tolist() == [sample["acc"] == 1 for sample in samples]
    by_characters = scores.answers(scores.characters) == scores.labels
    assert by_characters.tolist() == [sample["acc_norm"] == 1 for sample in samples]
    figures = scores.figures()
    assert (figures["acc"], figures["acc_norm_characters"]) == (results["acc,none"], results["acc_norm,none"])
    assert scores.counts()["cut_contexts"] > 0


def test_hellaswag_is_that_of_the_harness_question_by_question(samples_of, scorer, tokenizer, tmp_path):
    (tmp_path / "val.jsonl").write_text(zero_shot_files.hellaswag_jsonl())
    questions = hellaswag.read_questions(str(tmp_path / "val.jsonl"))
    protocol = hellaswag.PROTOCOLS["harness"]
    lines = map(json.loads, zero_shot_files.hellaswag_jsonl().splitlines())
    results, samples = samples_of("hellaswag", "validation", lines)
    rendered = [protocol.render(question) for question in questions]
    assert [[question.context, *question.choices] for question in rendered] == [
        [sample["doc"]["query"], *sample["doc"]["choices"]] for sample in samples
    ]
    require_equal_choices(hellaswag.evaluate_hellaswag(scorer, tokenizer, questions, protocol), results, samples)


def test_piqa_is_that_of_the_harness_question_by_question(samples_of, scorer, tokenizer, tmp_path):
    (tmp_path / "valid.jsonl").write_text(zero_shot_files.piqa_jsonl())
    (tmp_path / "valid-labels.lst").write_text(zero_shot_files.piqa_labels())
    questions = piqa.read_questions(str(tmp_path / "valid.jsonl"), str(tmp_path / "valid-labels.lst"))
    lines = [json.loads(line) for line in zero_shot_files.piqa_jsonl().splitlines()]
    labelled = [{**line, "label": label} for line, (*_, label) in zip(lines, zero_shot_files.PIQA, strict=True)]
    results, samples = samples_of("piqa", "validation", labelled)
    require_equal_choices(piqa.evaluate_piqa(scorer, tokenizer, questions), results, samples)
