"""Fine-tuning on conversations from end to end: text, records, a run that begins with a checkpoint, and a chat."""

import contextlib
import dataclasses
import io
import json
import sys

import pytest
from command_line import GENERATE, INSPECT, TRAIN, VERIFY, call, snapshot, without_xla
from conversations import conversations, exchanges, message, write_conversations
from saved_tokenizer import save_tokenizer
from tiny_checkpoints import save_initial
from tiny_models import GPT2_CONFIG

from algpt2.text.tokenizer import Tokenizer

CHAT_RECORDS = "data_tools/make_chat_tfrecords.py"
SEQ_LEN = 64
STEPS = 150


class Terminal(io.StringIO):
    """A stdout that a person reads."""

    def isatty(self):
        return True


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with conversations, a tokenizer, and a new model's checkpoint that has it. Read only."""
    folder = tmp_path_factory.mktemp("chat")
    write_conversations(folder / "chat.jsonl")
    tokenizer_folder = save_tokenizer(tmp_path_factory, [json.dumps(one) for one in conversations()])
    tokenizer = Tokenizer.load(tokenizer_folder)
    config = dataclasses.replace(GPT2_CONFIG, vocab_size=tokenizer.vocab_size, seq_len=SEQ_LEN)
    save_initial(folder / "base", config, tokenizer.to_json())
    return folder


@pytest.fixture(scope="module")
def command(scripts):
    """Runs a script with some flags."""

    def run(script, *arguments):
        return call(scripts[script]["main"], [str(argument) for argument in arguments])

    return run


@pytest.fixture(scope="module")
def made(command, place):
    """What the script prints of records in which conversations are packed."""
    flags = ("--seq_len", SEQ_LEN, "--val_fraction", 0.2, "--packing", "whole")
    where = ("--input", place / "chat.jsonl", "--tokenizer", place / "base", "--output", place / "records")
    return command(CHAT_RECORDS, *where, *flags).result


def train(command, place, model_dir, *more):
    records = ("--train_path", place / "records", "--val_path", place / "records", "--document_mask")
    begins = ("--config_path", place / "base", "--initialize_from", place / "base", "--model_dir", place / model_dir)
    length = ("--steps", STEPS, "--batch_size", 8, "--learning_rate", 1e-2, "--eval_every_steps", 25)
    quick = ("--no-jit_compile", "--no-tensorboard", "--log_every_steps", 10, "--save_every_steps", 150)
    return command(TRAIN, *records, *begins, *length, *quick, *more)


@pytest.fixture(scope="module")
def trained(command, place, made):
    """The run's folder, and its result."""
    vocab_size = made["vocab_size"]
    return place / "run", train(command, place, "run", "--vocab_size", vocab_size).result


def test_the_records_are_verified_and_shown(command, place, made):
    assert command(VERIFY, "--input", place / "records").result["train"] == made["train"]
    shown = command(INSPECT, "--input", place / "records", "--split", "val").result
    assert shown["records"][0]["text"].startswith("<|endoftext|><|im_start|>")


def test_the_loss_of_held_out_conversations_falls(trained):
    """Catches: a loss that counts what the user says, which nobody can predict, and weights that miss their targets."""
    run, result = trained
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = [line["val_loss"] for line in lines if "val_loss" in line]
    assert result["val_loss"] == losses[-1] < 0.6 * losses[0]


def test_a_run_of_conversations_is_replayed(command, place, trained):
    run, _ = trained
    replayed = command(INSPECT, "--input", place / "records", "--replay", 1, "--model_dir", run).result
    assert all(record["text"].startswith("<|endoftext|><|im_start|>") for record in replayed["records"])


def test_a_larger_vocabulary_must_be_asked_for(command, place, made):
    outcome = train(command, place, "refused")
    assert outcome.status == 2
    assert f"was made with {made['vocab_size']}, the model has {made['vocab_size'] - 2}" in outcome.sentence
    assert not (place / "refused").exists()


CHAT = ("--chat", "--temperature", 0, "--max_new_tokens", 12)


def test_a_chat_answers_and_ends_by_itself(command, trained):
    """Catches: a chat that ends at EOS alone, a prompt that is not formatted, and template tokens in a reply."""
    run, _ = trained
    prompt, reply = next(exchanges())
    (text,) = command(GENERATE, "--checkpoint", run, *CHAT, "--prompt", prompt, "--system", "count up").result["texts"]
    assert text["prompt"] == prompt
    assert text["is_ended"]
    assert "<|" not in text["text"]
    assert len(text["text"].split()) == len(reply.split())


def test_an_interactive_chat_goes_on_until_an_empty_line_begins_another(scripts, trained, monkeypatch):
    """Catches: replies that are forgotten, so that a chat never becomes too long, and empty lines that are prompts."""
    run, _ = trained
    typed = ["one red"] * 6 + ["", "one red"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in typed)))
    arguments = [str(one) for one in ("--checkpoint", run, *CHAT, "--interactive")]
    with contextlib.redirect_stdout(Terminal()) as out, contextlib.redirect_stderr(io.StringIO()) as err, without_xla():
        assert scripts[GENERATE]["main"](arguments) == 0
    replies = out.getvalue().splitlines()
    refused = err.getvalue().count("error: the prompt and the new tokens must fit")
    assert refused > 0
    assert len(replies) == 7 - refused
    assert replies[0] == replies[-1]
    assert err.getvalue().count("a new conversation begins") == 1


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--system", "a"), "--system is what a chat begins with, and --chat was not given"),
        (("--chat",), "--chat needs what the user says, and there is nothing"),
        (("--chat", "--prompt", "a", "--max_new_tokens", 64), "must fit into the model's 64 positions"),
    ],
)
def test_a_chat_without_what_it_needs_is_refused(command, trained, flags, sentence):
    outcome = command(GENERATE, "--checkpoint", trained[0], *flags)
    assert (outcome.status, outcome.stdout) == (2, "")
    assert sentence in outcome.sentence


def test_a_model_whose_tokenizer_lacks_the_template_is_refused(command, place):
    outcome = command(GENERATE, "--checkpoint", place / "base", "--chat", "--prompt", "a")
    assert (outcome.status, outcome.stdout) == (2, "")
    assert "a chat needs a tokenizer with <|im_start|> and <|im_end|>" in outcome.sentence


SOUND = {"messages": conversations()[1]}
WRONG_LINES = [
    ("{", "must be a JSON object"),
    ({"text": "a"}, "must have a list of messages by the key 'messages'"),
    ({"messages": []}, "must have a list of messages by the key 'messages'"),
    ({"messages": [message("robot", "a")]}, "a message's role must be one of system, user, assistant"),
    ({"messages": [message("user", "a")]}, "must have a message of the assistant"),
    ({"messages": [message("assistant", "a " * 99)]}, f"must fit into a record of {SEQ_LEN + 1} ids"),
]


@pytest.mark.parametrize(("line", "sentence"), WRONG_LINES)
def test_a_wrong_line_is_refused_with_its_place_and_nothing_is_written(command, place, tmp_path, line, sentence):
    wrong = line if isinstance(line, str) else json.dumps(line)
    (tmp_path / "chat.jsonl").write_text(f"{json.dumps(SOUND)}\n{wrong}\n")
    where = ("--input", tmp_path / "chat.jsonl", "--tokenizer", place / "base", "--output", tmp_path / "out")
    outcome = command(CHAT_RECORDS, *where, "--seq_len", SEQ_LEN)
    assert (outcome.status, outcome.stdout) == (2, "")
    assert sentence in outcome.sentence
    assert f"{tmp_path}/chat.jsonl, line 2" in outcome.sentence
    assert [path.name for path in snapshot(tmp_path)] == ["chat.jsonl"]


def test_a_tokenizer_that_spells_a_chat_token_in_ordinary_text_is_refused(command, place, tmp_path):
    vocab, merges = Tokenizer.load(str(place / "base")).to_parts()
    eos_id = vocab.pop("<|endoftext|>")
    Tokenizer({**vocab, "<|im_start|>": eos_id, "<|endoftext|>": eos_id + 1}, merges).save(str(tmp_path / "tokenizer"))
    where = ("--input", place / "chat.jsonl", "--tokenizer", tmp_path / "tokenizer", "--output", tmp_path / "out")
    outcome = command(CHAT_RECORDS, *where)
    assert (outcome.status, outcome.stdout) == (2, "")
    assert "must not have <|im_start|> among its ordinary tokens" in outcome.sentence
