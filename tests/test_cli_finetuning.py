"""Fine-tuning on text from end to end: a trained model, records of another text, and a run that begins with it."""

import json
import math

import numpy as np
import pytest
from command_line import EVALUATE, RECORDS, SMALL, TOKENIZER, TRAIN, call

FIRST_WORDS, OTHER_WORDS = ("alpha", "beta", "gamma"), ("delta", "epsilon", "zeta")
PRETRAINED_STEPS, RATE = 30, 5e-3


def text_of(words, lines, seed):
    """Returns lines in which each word is followed by the next of `words`, from a random one on."""
    starts = np.random.default_rng(seed).integers(len(words), size=lines)
    return "\n".join(" ".join(words[(start + i) % len(words)] for i in range(12)) for start in starts)


@pytest.fixture(scope="module")
def place(scripts, tmp_path_factory):
    """A folder with a model that was trained on the first words, and records of the others. Read only."""
    folder = tmp_path_factory.mktemp("finetuning")

    def command(script, *arguments):
        return call(scripts[script]["main"], [str(argument) for argument in arguments]).result

    for name, words in (("first", FIRST_WORDS), ("other", OTHER_WORDS), ("heldout", OTHER_WORDS)):
        (folder / f"{name}.txt").write_text(text_of(words, 150, seed=len(name)))
    both = folder / "first.txt", folder / "other.txt"
    command(TOKENIZER, "--input", *both, "--vocab_size", 300, "--output", folder / "tokenizer")
    cut = ("--seq_len", 16, "--num_shards", 1, "--val_fraction", 0, "--tokenizer", folder / "tokenizer")
    for name in ("first", "other"):
        command(RECORDS, "--input", folder / f"{name}.txt", *cut, "--output", folder / f"{name}_records")
    (folder / "model.json").write_text(json.dumps(SMALL))
    length = ("--steps", PRETRAINED_STEPS, "--batch_size", 8, "--learning_rate", 1e-2)
    quick = ("--no-jit_compile", "--no-tensorboard", "--log_every_steps", 1)
    shape = ("--config_path", folder / "model.json")
    records = ("--train_path", folder / "first_records", "--model_dir", folder / "first")
    command(TRAIN, *records, *shape, *length, *quick)
    begins = ("--initialize_from", folder / "first", "--model_dir", folder / "tuned", "--learning_rate", RATE)
    recipe = ("--recipe", "gpt2-finetune-wikitext", "--train_path", folder / "other_records", *shape)
    command(TRAIN, *recipe, *begins, *quick)
    scored = ("--data", folder / "heldout.txt", "--protocol", "raw")
    for name in ("first", "tuned"):
        (folder / f"{name}.json").write_text(json.dumps(command(EVALUATE, "--checkpoint", folder / name, *scored)))
    return folder


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_the_perplexity_of_held_out_text_of_the_new_kind_falls(place):
    before, after = (json.loads((place / f"{name}.json").read_text()) for name in ("first", "tuned"))
    assert after["token_perplexity"] < 0.5 * before["token_perplexity"]


def test_the_run_begins_with_the_weights_and_with_a_schedule_of_its_own(place):
    """Catches: a new model's weights, and the step or the learning rate of the run that the weights are of."""
    first, tuned = lines_of(place / "first"), lines_of(place / "tuned")
    before = math.log(json.loads((place / "first.json").read_text())["token_perplexity"])
    assert tuned[0]["loss"] == pytest.approx(before, abs=0.25)
    assert abs(tuned[0]["loss"] - first[0]["loss"]) > 0.4, "the first loss of a new model, which the test tells apart"
    assert tuned[0]["step"] == 1
    assert tuned[0]["learning_rate"] == pytest.approx(RATE, rel=0.05)
    assert tuned[-1]["learning_rate"] < RATE / 10
