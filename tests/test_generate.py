"""`generate.py` as a command: several prompts and samples as JSON, and text while it is made on a terminal."""

import contextlib
import io
import json
import sys

import pytest
from command_line import GENERATE, to_arguments, without_xla

SHORT = {"max_new_tokens": 5, "temperature": 1.5}


class Terminal(io.StringIO):
    """A stdout that a person reads."""

    def isatty(self):
        return True


@pytest.fixture
def on_terminal(scripts, good, monkeypatch):
    """Runs the command on a terminal; returns its status and what it wrote to stdout and stderr."""

    def on_terminal(typed="", **flags):
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        arguments = to_arguments({"checkpoint": "{good}/algpt2", **SHORT, **flags}, {"good": good})
        with (
            contextlib.redirect_stdout(Terminal()) as out,
            contextlib.redirect_stderr(io.StringIO()) as err,
            without_xla(),
        ):
            status = scripts[GENERATE]["main"](arguments)
        return status, out.getvalue(), err.getvalue()

    return on_terminal


@pytest.fixture(scope="module")
def prompts_and_samples(run_script, good, tmp_path_factory):
    """Two samples of each of two prompts of a file, in batches of three."""
    file = tmp_path_factory.mktemp("prompts") / "prompts.txt"
    file.write_text("alpha beta\nzeta\n")
    flags = {**SHORT, "prompt": None, "prompt_file": str(file), "samples": 2, "batch_size": 3}
    return run_script(GENERATE, {"good": good}, **flags).result


def test_each_sample_of_each_prompt_is_in_the_result(prompts_and_samples):
    texts = prompts_and_samples["texts"]
    assert [(text["prompt"], text["sample"]) for text in texts] == [
        ("alpha beta", 0),
        ("alpha beta", 1),
        ("zeta", 0),
        ("zeta", 1),
    ]
    assert len({text["text"] for text in texts}) == 4
    assert prompts_and_samples["tokens_per_second"] > 0


def test_a_terminal_shows_the_same_texts_while_they_are_made(prompts_and_samples, on_terminal):
    status, out, err = on_terminal(prompt="zeta", samples=2)
    expected = [text["prompt"] + text["text"] + "\n" for text in prompts_and_samples["texts"][2:]]
    assert (status, out) == (0, "".join(expected))
    assert err.endswith(" tokens/s\n")


def test_a_terminal_gets_json_where_that_is_asked_for(prompts_and_samples, on_terminal):
    _, out, err = on_terminal(prompt="zeta", json=True)
    assert json.loads(out)["texts"] == prompts_and_samples["texts"][2:3]
    assert err == ""


def test_a_conversation_continues_each_line_until_the_end_and_survives_one_that_does_not_fit(
    prompts_and_samples, on_terminal
):
    status, out, err = on_terminal("zeta\n" + "alpha " * 20 + "\nalpha beta\n", interactive=True)
    first, second = (prompts_and_samples["texts"][i] for i in (2, 0))
    assert (status, out) == (0, "".join(text["prompt"] + text["text"] + "\n" for text in (first, second)))
    assert err.count("error: the prompt and the new tokens must fit") == 1
    assert err.count("> ") == 4


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"prompt_file": "{good}/corpus.jsonl"}, "prompts must come from one place, received --prompt and --prompt_fi"),
        ({"interactive": True}, "prompts must come from one place, received --prompt and --interactive"),
        ({"interactive": True, "prompt": None}, "--interactive must write to a terminal"),
        ({"samples": 2, "temperature": 0}, "--samples must be 1 where the likeliest token is always taken"),
        ({"samples": 0}, "samples must be at least 1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"min_p": 2}, "min_p must be in [0, 1], received 2.0"),
        ({"repetition_penalty": 0}, "repetition_penalty must be from 0.01 to 100, received 0.0"),
        ({"prompt": None, "prompt_file": "{good}/none"}, "none"),
        ({"prompt": None, "prompt_file": "{good}/corpus.jsonl"}, "prompt"),
    ],
)
def test_what_contradicts_itself_or_is_not_there_is_refused_in_a_sentence(run_script, good, flags, sentence):
    outcome = run_script(GENERATE, {"good": good}, **flags)
    assert (outcome.status, outcome.stdout) == (2, "")
    assert sentence in outcome.sentence


@pytest.mark.parametrize(("content", "sentence"), [("a\n\nb\n", "line 2 of"), ("", "nothing|empty|must")])
def test_a_file_of_prompts_with_a_blank_line_or_nothing_in_it_is_refused(run_script, good, tmp_path, content, sentence):
    (tmp_path / "prompts.txt").write_text(content)
    outcome = run_script(GENERATE, {"good": good}, prompt=None, prompt_file=str(tmp_path / "prompts.txt"))
    assert (outcome.status, outcome.stdout) == (2, "")
    assert any(part in outcome.sentence for part in sentence.split("|"))


def test_a_prompt_of_json_lines_may_have_line_ends_and_be_empty(run_script, good, tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "alpha\\nbeta"}\n{"prompt": ""}\n')
    texts = run_script(GENERATE, {"good": good}, prompt=None, prompt_file=str(file)).result["texts"]
    assert [text["prompt"] for text in texts] == ["alpha\nbeta", ""]
