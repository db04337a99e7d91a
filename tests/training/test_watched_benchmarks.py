"""Benchmarks while training: their figures are those of the checkpoint, and their files are checked before a step."""

import dataclasses
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from benchmark_files import WIKITEXT, benchmark_files, json_lines, question
from places import SHARED_DATA
from tiny_run import kill_at, tiny_run, train_tiny, train_until_killed
from tiny_step import TWO, strategy_of

from algpt2.checkpoints.folder import find_checkpoint
from algpt2.checkpoints.save_load import load_model
from algpt2.config.tracking import TrackingConfig
from algpt2.errors import UserError
from algpt2.evaluation import hellaswag, lambada, perplexity
from algpt2.evaluation.scorer import Scorer
from algpt2.text.tokenizer import Tokenizer
from algpt2.tracking import run_log
from algpt2.tracking.metrics import read_metrics
from algpt2.training import evaluations
from algpt2.training.benchmarks import HELLASWAG_PROTOCOL, LAMBADA_PROTOCOL, WIKITEXT_PROTOCOL, read_benchmarks

FIGURES = {
    "wikitext_word_perplexity",
    "wikitext_bits_per_byte",
    "hellaswag_acc",
    "hellaswag_acc_norm_tokens",
    "lambada_acc",
    "lambada_perplexity",
}


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    """A small file of each benchmark, and the settings that name them."""
    return TrackingConfig(tensorboard=False, **benchmark_files(tmp_path_factory.mktemp("benchmarks")))


@pytest.fixture
def run(records_folder, tmp_path, tracking):
    """It validates after steps 4, 8 and 10."""
    return tiny_run(records_folder, tmp_path / "run", tracking)


class Ended(NamedTuple):
    """A run that has ended, what it returned and logged, and the scorers that it made."""

    model_dir: Path
    result: dict
    messages: list
    scorers: list


@pytest.fixture(scope="module")
def ended(records_folder, tmp_path_factory, tracking):
    """The run, after its last step. Read only."""
    scorers, messages = [], []
    run = tiny_run(records_folder, tmp_path_factory.mktemp("ended") / "run", tracking)

    def create(*arguments):
        scorers.append(Scorer(*arguments))
        return scorers[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluations, "Scorer", create)
        patch.setattr(run_log.logging, "info", lambda text, *values: messages.append(text % values))
        result = train_tiny(run)
    return Ended(Path(run.model_dir), result, messages, scorers)


def figures_of(metrics):
    """{step: figures} of the lines that have figures of benchmarks."""
    found = {line["step"]: {name: line[name] for name in FIGURES & set(line)} for line in metrics}
    return {step: figures for step, figures in found.items() if figures}


def test_each_validation_has_the_figures_of_every_benchmark_and_the_last_are_the_result(ended):
    found = figures_of(read_metrics(str(ended.model_dir)))
    assert list(found) == [4, 8, 10]
    assert all(set(figures) == FIGURES for figures in found.values())
    assert {name: ended.result[name] for name in FIGURES} == found[10]
    assert len({figures["wikitext_bits_per_byte"] for figures in found.values()}) == 3, "a model that learns"
    logged = [message for message in ended.messages if " hellaswag " in message]
    assert [line.split("  ")[0] for line in logged] == ["step 4", "step 8", "step 10"]
    assert f"hellaswag acc {found[10]['hellaswag_acc']:.4f}  acc norm tokens " in logged[-1]


def test_one_scorer_serves_all_benchmarks_and_all_steps(ended):
    assert len(ended.scorers) == 1


def test_the_figures_are_those_of_the_checkpoint_by_the_functions_that_the_scripts_call(ended, tracking):
    checkpoint = find_checkpoint(str(ended.model_dir))
    scorer = Scorer(load_model(checkpoint), 2, jit_compile=False)
    tokenizer = Tokenizer.load(checkpoint.folder)
    wiki = perplexity.evaluate_text(scorer, tokenizer, WIKITEXT, WIKITEXT_PROTOCOL)
    questions = hellaswag.read_questions(tracking.eval_hellaswag)
    choices = hellaswag.evaluate_hellaswag(scorer, tokenizer, questions, HELLASWAG_PROTOCOL).figures()
    passages = lambada.read_passages(tracking.eval_lambada)
    words = lambada.evaluate_lambada(scorer, tokenizer, passages, LAMBADA_PROTOCOL).figures()
    expected = {
        **{f"wikitext_{name}": value for name, value in wiki.items()},
        **{f"hellaswag_{name}": value for name, value in choices.items()},
        **{f"lambada_{name}": value for name, value in words.items()},
    }
    for name in FIGURES:
        assert ended.result[name] == pytest.approx(expected[name], rel=1e-5), name


def test_a_killed_run_goes_on_to_the_same_lines(run, ended, monkeypatch):
    train_until_killed(run, monkeypatch, step=5)
    train_tiny(run)
    assert figures_of(read_metrics(run.model_dir)) == figures_of(read_metrics(str(ended.model_dir)))


def test_a_run_without_a_result_measures_its_last_step_again(run, ended, monkeypatch):
    shutil.copytree(ended.model_dir, run.model_dir)
    (Path(run.model_dir) / "result.json").unlink()
    kill_at(monkeypatch, 0)
    again = train_tiny(run)
    assert {name: again[name] for name in FIGURES} == {name: ended.result[name] for name in FIGURES}


def test_replicas_give_the_figures_of_one_device(run, ended):
    together = train_tiny(run, strategy_of(TWO))
    for name in FIGURES:
        assert together[name] == pytest.approx(ended.result[name], rel=1e-4), name


WRONG = [
    ("eval_wikitext", None, "must exist"),
    ("eval_wikitext", " \n \n", "with WikiText's article headings"),
    ("eval_wikitext", "alpha beta\n", "with WikiText's article headings"),
    ("eval_wikitext", b"\xff\xfe", "must be UTF-8"),
    ("eval_hellaswag", None, "must exist"),
    (
        "eval_hellaswag",
        json_lines([{**question(1, 0), "endings": None}]),
        "'endings' must be a list of 4 texts.*line 1",
    ),
    ("eval_hellaswag", json_lines([question(1, 0), {**question(2, 0), "label": None}]), "'label' must be.*line 2"),
    ("eval_hellaswag", "no json\n", "every line must be a JSON object.*line 1"),
    ("eval_hellaswag", json_lines([{**question(1, 0), "endings": ["a", "b", "c", "long " * 20]}]), "seq_len of 16"),
    ("eval_lambada", None, "must exist"),
    ("eval_lambada", json_lines([{"text": "word"}]), "two words or more.*line 1"),
    ("eval_lambada", json_lines([{"text": "alpha " + "b" * 40}]), "seq_len of 16"),
]


@pytest.mark.parametrize(("flag", "content", "reason"), WRONG)
def test_a_file_that_cannot_be_scored_is_refused_before_anything_is_written(run, tmp_path, flag, content, reason):
    path = tmp_path / "wrong.file"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    wrong = dataclasses.replace(run, tracking=dataclasses.replace(run.tracking, **{flag: str(path)}))
    with pytest.raises(UserError, match=f"(?s){reason}") as refused:
        train_tiny(wrong)
    assert "wrong.file" in str(refused.value) or "seq_len" in reason
    assert not Path(run.model_dir).exists()


def test_only_the_files_that_are_named_are_read(tmp_path):
    tokenizer = Tokenizer.train(["alpha beta"], 257)
    assert read_benchmarks(TrackingConfig(), tokenizer, 16) == ()
    (tmp_path / "wiki.raw").write_text(WIKITEXT)
    named = read_benchmarks(TrackingConfig(eval_wikitext=str(tmp_path / "wiki.raw")), tokenizer, 16)
    assert [benchmark.name for benchmark in named] == ["wikitext"]


@pytest.mark.skipif(not SHARED_DATA.exists(), reason="needs ../shared/data: WikiText")
def test_the_official_test_file_has_figures_of_its_own_name(tmp_path):
    tokenizer, folder = Tokenizer.train(["alpha beta"], 257), SHARED_DATA / "wikitext-2-raw"
    for file, name in (("wiki.test.raw", "wikitext_test"), ("wiki.valid.raw", "wikitext")):
        (benchmark,) = read_benchmarks(TrackingConfig(eval_wikitext=str(folder / file)), tokenizer, 16)
        assert benchmark.name == name
