"""Zero-shot evaluations beside lm-evaluation-harness itself, with the same model and files, question by question.

They run where lm_eval, PyTorch, transformers and accelerate are installed.
"""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import zero_shot_files
from command_line import call
from tiny_checkpoints import TRAIN_CONFIG
from tiny_step import TWO, strategy_of

from algpt2.checkpoints.folder import CheckpointState
from algpt2.checkpoints.save_load import save_checkpoint, take_snapshot
from algpt2.errors import UserError
from algpt2.evaluation import hellaswag, lambada, piqa
from algpt2.evaluation.scorer import Scorer
from algpt2.optim.create import create_optimizer


@pytest.fixture(scope="module", autouse=True)
def lm_eval():
    """The library. It takes many seconds to import, which every process that collects the tests would do otherwise."""
    module = pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed")
    pytest.importorskip("torch", reason="PyTorch is not installed")
    pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="accelerate is not installed")
    return module


@pytest.fixture(scope="module")
def tokenizer():
    return zero_shot_files.word_tokenizer()


@pytest.fixture(scope="module")
def scorer(tokenizer):
    return Scorer(zero_shot_files.word_model(tokenizer), batch_size=3, jit_compile=False)


@pytest.fixture(scope="module")
def checkpoint(scorer, tokenizer, tmp_path_factory):
    """A folder with the model, as every run saves it."""
    folder = tmp_path_factory.mktemp("checkpoint")
    tokenizer.save(str(folder))
    state = CheckpointState(1, 1, TRAIN_CONFIG.to_dict(), "abc", 1)
    snapshot = take_snapshot(scorer.model, create_optimizer(TRAIN_CONFIG, scorer.model))
    save_checkpoint(str(folder), snapshot, state, (folder / "tokenizer.json").read_bytes())
    return str(folder)


@pytest.fixture(scope="module")
def theirs(checkpoint):
    """The same model, loaded by transformers, as lm-evaluation-harness runs it."""
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=checkpoint, device="cpu", batch_size=2)


@pytest.fixture(scope="module")
def ours(scorer, tokenizer):
    from algpt2.evaluation.harness_model import HarnessModel

    return HarnessModel(scorer, tokenizer, jit_compile=False)


def write_task(folder, task, split, lines, **changes):
    """Writes a task of lm-evaluation-harness whose data set is a file of lines; returns a manager that knows it."""
    from lm_eval.tasks import TaskManager

    (folder / f"{task}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    files = {"data_files": {split: str(folder / f"{task}.jsonl")}, "cache_dir": str(folder / "cache")}
    local = {
        **{"task": task, "dataset_path": "json", "dataset_name": None, "dataset_kwargs": files},
        **{"training_split": None, "validation_split": None, "test_split": None, f"{split}_split": split},
        **changes,
    }
    (folder / f"{task}.yaml").write_text(json.dumps(local))  # JSON is YAML
    return TaskManager(include_path=str(folder), include_defaults=False)


@pytest.fixture
def samples_of(lm_eval, theirs, tmp_path):
    """Runs a task of lm-evaluation-harness on lines in the place of its data set; returns its results and samples."""

    def samples_of(task, split, lines):
        own_yaml = next(Path(lm_eval.__file__).parent.glob(f"tasks/*/{task}.yaml"))
        manager = write_task(tmp_path, task, split, lines, include=str(own_yaml))
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


def requests(kind, *arguments):
    """What the harness hands to a model."""
    from lm_eval.api.instance import Instance

    return [Instance(kind, {}, one, i, ("task", i, 1)) for i, one in enumerate(arguments)]


def test_log_likelihoods_are_those_of_the_harnesss_own_model(ours, theirs):
    """Also of an empty context, one that ends in white space, one that is too long, and one continuation of many."""
    pairs = [("", " the door"), ("the mat \n", " and"), ("the door " * 40, "the cat"), ("the", " cat"), ("the", " rat")]
    pairs += [("the cat sat", " on"), ("çà et", " là"), ("behind her closed the", " door")]
    expected = theirs.loglikelihood(requests("loglikelihood", *pairs))
    received = ours.loglikelihood(requests("loglikelihood", *pairs))
    np.testing.assert_allclose([ll for ll, _ in received], [ll for ll, _ in expected], rtol=1e-5, atol=1e-4)
    assert [is_greedy for _, is_greedy in received] == [is_greedy for _, is_greedy in expected]


def test_rolling_log_likelihoods_are_those_of_the_harnesss_own_model(ours, theirs):
    texts = [("the cat",), ("the door and the mat " * 30,), (" ".join(zero_shot_files.PASSAGES),), ("d",)]
    expected = theirs.loglikelihood_rolling(requests("loglikelihood_rolling", *texts))
    received = ours.loglikelihood_rolling(requests("loglikelihood_rolling", *texts))
    np.testing.assert_allclose(received, expected, rtol=1e-5)
    assert ours.loglikelihood_rolling(requests("loglikelihood_rolling", ("",))) == [0.0]


def test_greedy_text_is_that_of_the_harnesss_own_model(ours, theirs):
    """Up to each stop text, after contexts of all lengths, of which the first tokens of the longest are cut."""
    options = {"until": ["\n\n"], "max_gen_toks": 12, "do_sample": False}
    stopped = {**options, "until": [" door"]}
    contexts = ["She came in", "the cat sat on the mat and", "çà et là " * 20]
    arguments = [(context, dict(one)) for context in contexts for one in (options, stopped)]
    expected = theirs.generate_until(requests("generate_until", *arguments))
    assert ours.generate_until(requests("generate_until", *arguments)) == expected
    assert expected[0]
    assert expected[0] != expected[1]
    penalised = {**options, "repetition_penalty": 1.5}
    arguments = [(context, penalised) for context in contexts]
    received = ours.generate_until(requests("generate_until", *arguments))
    assert received == theirs.generate_until(requests("generate_until", *arguments)) != expected[::2]


def test_text_of_a_model_on_two_replicas_is_that_of_one(ours, tokenizer):
    from algpt2.evaluation.harness_model import HarnessModel

    strategy = strategy_of(TWO)
    with strategy.scope():
        model = zero_shot_files.word_model(tokenizer)
    two = HarnessModel(Scorer(model, 2, jit_compile=False, strategy=strategy), tokenizer, jit_compile=False)
    arguments = requests("generate_until", ("the cat sat", {"until": [], "max_gen_toks": 6}))
    assert two.generate_until(arguments) == ours.generate_until(arguments)


@pytest.fixture
def only_local_tasks(monkeypatch):
    """The harness reads no task files but those of --include_path: its own 14,000 take it many seconds."""
    from lm_eval.tasks import TaskManager

    monkeypatch.setattr("lm_eval.tasks.TaskManager", functools.partial(TaskManager, include_defaults=False))


LOCAL_TASKS = {
    "door_words": {
        **{"output_type": "loglikelihood", "doc_to_text": "{{text[:-5]}}", "doc_to_target": "{{text[-5:]}}"},
        "metric_list": [{"metric": "perplexity"}, {"metric": "acc"}],
    },
    "door_texts": {
        **{"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}"},
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}],
    },
    "door_endings": {
        **{"output_type": "generate_until", "doc_to_text": "{{text}}", "doc_to_target": " door"},
        **{"generation_kwargs": {"until": [" and"], "max_gen_toks": 3}, "metric_list": [{"metric": "exact_match"}]},
    },
    "door_choices": {
        **{"output_type": "multiple_choice", "doc_to_text": "{{text}}", "doc_to_choice": ["door", "the mat", "çà"]},
        **{"doc_to_target": "0", "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}, {"metric": "acc_bytes"}]},
    },
}


def test_the_script_gives_the_figures_of_the_harnesss_own_model_on_task_files(
    scripts, checkpoint, theirs, tmp_path, only_local_tasks, lm_eval
):
    for task, fields in LOCAL_TASKS.items():
        manager = write_task(tmp_path, task, "test", [{"text": one} for one in zero_shot_files.PASSAGES], **fields)
    flags = ["--checkpoint", checkpoint, "--tasks", "door_*", "--include_path", str(tmp_path), "--limit", "3"]
    outcome = call(scripts["eval/harness.py"]["main"], [*flags, "--num_fewshot", "1", "--batch_size", "2"])
    settings = {"limit": 3, "num_fewshot": 1, "bootstrap_iters": 1000}
    expected = lm_eval.simple_evaluate(theirs, tasks=[*LOCAL_TASKS], task_manager=manager, **settings)["results"]
    for task in LOCAL_TASKS:
        numbers = {key: value for key, value in expected[task].items() if isinstance(value, (int, float))}
        assert {key: outcome.result["results"][task][key] for key in numbers} == pytest.approx(numbers, rel=1e-4)
    assert outcome.result["n-samples"]["door_words"] == {"original": 6, "effective": 3}
    rows = [line.split() for line in outcome.stderr.splitlines() if line.startswith("door_endings ")]
    assert ["door_endings", "1", "none", "exact_match", f"{expected['door_endings']['exact_match,none']:.4f}"] in [
        row[:5] for row in rows
    ]


def test_a_task_that_is_unknown_or_does_not_load_is_refused_in_a_sentence(
    scripts, checkpoint, tmp_path, only_local_tasks
):
    data_files = {"data_files": {"test": str(tmp_path / "none.jsonl")}}
    broken = {"task": "broken", "dataset_path": "json", "dataset_kwargs": data_files, "test_split": "test"}
    (tmp_path / "broken.yaml").write_text(json.dumps(broken))
    flags = ["--checkpoint", checkpoint, "--include_path", str(tmp_path), "--tasks"]
    main = scripts["eval/harness.py"]["main"]
    for tasks, expected in [
        (["brokn"], "--tasks must name tasks of lm-evaluation-harness or of --include_path, and 'brokn' is none"),
        (["broken"], "every task of --tasks must load, and broken did not ("),
        (["broken", "--limit", "0"], "--limit must be at least 1, received 0"),
        (["broken", "--num_fewshot", "-1"], "--num_fewshot must be at least 0, received -1"),
    ]:
        outcome = call(main, [*flags, *tasks])
        assert (outcome.status, outcome.stdout) == (2, "")
        assert expected in outcome.stderr.splitlines()[-1]


def test_options_that_we_do_not_have_and_too_many_new_tokens_are_refused(ours):
    for options, expected in [
        ({"until": [], "num_beams": 4}, "and one has num_beams"),
        ({"until": [], "max_gen_toks": 48}, "from 1 to 47 new tokens.*asks for 48"),
    ]:
        with pytest.raises(UserError, match=expected):
            ours.generate_until(requests("generate_until", ("the", options)))
