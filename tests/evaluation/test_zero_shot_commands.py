"""The zero-shot scripts: what they print, and that wrong input is one sentence."""

import hashlib
import json
import shutil

import pytest
import zero_shot_files
from command_line import call

HELLASWAG, LAMBADA, PIQA_SCRIPT, HARNESS = (f"eval/{name}.py" for name in ("hellaswag", "lambada", "piqa", "harness"))
CHOICE_FIGURES = {"acc", "acc_norm_characters", "acc_norm_tokens"}
SHORT_ENDINGS = ["beta gamma", "gamma", "delta", "eta"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files in the official formats, of texts that a model of 16 positions can score."""
    folder = tmp_path_factory.mktemp("zero_shot")
    texts = {"activity_label": "a", "ctx_a": "alpha", "ctx_b": "", "ctx": "alpha", "endings": SHORT_ENDINGS}
    contents = {
        "hellaswag.jsonl": "".join(json.dumps({**texts, "label": label}) + "\n" for label in (0, 3)),
        "lambada.jsonl": '{"text": "alpha beta gamma"}\n' * 3,
        "piqa.jsonl": '{"goal": "alpha", "sol1": "beta", "sol2": "gamma delta"}\n' * 3,
        "labels.lst": "0\n1\n1\n",
        "one_label.lst": "0\n",
        "one_word.txt": "alpha beta\nalpha\n",
        "no_endings.jsonl": json.dumps({**texts, "endings": None, "label": 0}) + "\n",
        "long.jsonl": json.dumps({**texts, "endings": ["beta " * 17, "a", "b", "c"], "label": 0}) + "\n",
        "empty.jsonl": "",
    }
    for name, content in contents.items():
        (folder / name).write_text(content)
    return folder


@pytest.fixture
def run(scripts, good, files):
    """Runs a script with flags in which {good} and {files} are folders."""

    def run(script, **flags):
        flags = {"checkpoint": "{good}/gpt2", **flags}
        arguments = [part for name, value in flags.items() for part in (f"--{name}", *str(value).split())]
        return call(scripts[script]["main"], [part.format(good=good, files=files) for part in arguments])

    return run


@pytest.mark.parametrize(
    ("script", "flags", "figures", "protocols"),
    [
        (HELLASWAG, {"data": "{files}/hellaswag.jsonl"}, CHOICE_FIGURES, {"harness", "completion"}),
        (LAMBADA, {"data": "{files}/lambada.jsonl"}, {"acc", "perplexity"}, {"harness", "last_token"}),
        (PIQA_SCRIPT, {"data": "{files}/piqa.jsonl", "labels": "{files}/labels.lst"}, CHOICE_FIGURES, {"harness"}),
    ],
)
def test_a_script_prints_its_figures_with_protocol_counts_and_the_files_sha256(
    run, files, script, flags, figures, protocols
):
    outcome = run(script, **flags)
    result = outcome.result
    data = files / flags["data"].split("/")[1]
    assert result["sha256"] == hashlib.sha256(data.read_bytes()).hexdigest()
    assert result["window"] == 16
    assert result["checkpoint"].endswith("step_00000030")
    assert {*result["protocols"]} == protocols
    for name, one in result["protocols"].items():
        assert {key for key in one["figures"] if not key.endswith("_stderr")} == figures
        assert one["counts"]["scored_tokens"] > 0
        assert one["description"]
        assert [line.split()[:2] for line in outcome.stderr.splitlines() if line.startswith(name)][0] == [name, "acc"]


def test_one_protocol_can_be_chosen(run):
    result = run(HELLASWAG, data="{files}/hellaswag.jsonl", protocol="completion").result
    assert {*result["protocols"]} == {"completion"}


@pytest.mark.parametrize(
    ("script", "flags", "expected"),
    [
        (HELLASWAG, {"data": "{files}/no_endings.jsonl"}, "'endings' must be a list of 4 texts, and in "),
        (HELLASWAG, {"data": "{files}/empty.jsonl"}, "must hold text, and "),
        (HELLASWAG, {"data": "{files}/none"}, "a text file must exist, and "),
        (HELLASWAG, {"data": "{files}/long.jsonl"}, "from 1 token to the model's seq_len of 16, and one text has "),
        (HELLASWAG, {"data": "{files}/hellaswag.jsonl", "batch_size": 0}, "batch_size must be at least 1, received 0"),
        (HELLASWAG, {"data": "{files}/hellaswag.jsonl", "checkpoint": "{good}/records"}, "--checkpoint must be "),
        (LAMBADA, {"data": "{files}/one_word.txt"}, "one_word.txt, line 2 is 'alpha'"),
        (LAMBADA, {"data": "{files}/empty.jsonl"}, "must hold text, and "),
        (PIQA_SCRIPT, {"data": "{files}/piqa.jsonl", "labels": "{files}/one_label.lst"}, "has 3 questions and "),
    ],
)
def test_wrong_input_is_refused_in_a_sentence(run, script, flags, expected):
    outcome = run(script, **flags)
    assert (outcome.status, outcome.stdout) == (2, "")
    assert expected in outcome.sentence


@pytest.mark.parametrize("script", [HELLASWAG, LAMBADA, PIQA_SCRIPT, HARNESS])
def test_every_script_explains_its_flags(run, scripts, script):
    outcome = call(scripts[script]["main"], ["--help"])
    assert outcome.status == 0
    assert {"--checkpoint", "--ema", "--batch_size", "--tpu"} <= {*outcome.stdout.replace(",", " ").split()}


def test_a_tokenizer_that_does_not_belong_to_the_model_is_refused(run, good, tmp_path):
    shutil.copytree(good / "gpt2", tmp_path / "run")
    folder = next((tmp_path / "run" / "checkpoints").glob("*30"))
    zero_shot_files.word_tokenizer().save(str(folder))
    outcome = run(LAMBADA, data="{files}/lambada.jsonl", checkpoint=folder)
    assert (outcome.status, outcome.stdout) == (2, "")


def test_without_the_harness_its_script_says_how_to_install_it(run, monkeypatch):
    from algpt2.evaluation import harness_tasks

    monkeypatch.setattr(harness_tasks.importlib.util, "find_spec", lambda name: None)
    outcome = run(HARNESS, tasks="piqa")
    assert outcome.status == 2
    assert "run `pip install 'algpt2[eval]'`" in outcome.sentence
