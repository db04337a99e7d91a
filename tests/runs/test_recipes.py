"""Recipes: each one plans the published run, flags beside one win, and whatever is wrong with one is a sentence."""

import contextlib
import io
import json

import pytest
from command_line import TRAIN
from places import REPOSITORY

from algpt2.config.records import RecordOptions
from algpt2.devices.tpu_pods import pod_named
from algpt2.errors import UserError
from algpt2.preparation.preparation import make_tfrecords
from algpt2.runs.recipes import read_recipe, recipe_names, step_of
from algpt2.text.tokenizer import Tokenizer

RECIPES = str(REPOSITORY / "recipes")
# Parameters, and tokens of the whole run or None where the length of the text decides: from the sources, not from us.
PUBLISHED = {
    "gpt2-2020": (124_439_808, 90_000 * 512 * 1024),
    "algpt2-2020": (13_850_880, 90_000 * 512 * 1024),
    "algpt2-2020-corrected": (13_850_880, 90_000 * 512 * 1024),
    "algpt2-2020-no-dropout": (13_850_880, 90_000 * 512 * 1024),
    "algpt2-2020-factorized-256": (20_611_584, 90_000 * 512 * 1024),
    "algpt2-2020-factorized-512": (34_132_992, 90_000 * 512 * 1024),
    "algpt2-2020-shared": (46_473_216, 90_000 * 512 * 1024),
    "algpt2-2020-medium-shared": (65_110_016, 90_000 * 512 * 1024),
    "alibi-580m": (587_237_376, 97_000 * 512 * 1024),
    "decoder-89m": (89_423_872, 60_000 * 501_760),
    "decoder-304m": (304_730_112, 72_000 * 516_096),
    "decoder-1b": (1_034_415_360, 41_000 * 734_720),
    "gpt2-fineweb-edu": (124_475_904, 19_073 * 524_288),
    "gpt2-fineweb-edu-40b": (124_475_904, 76_290 * 524_288),
    "gpt2-fineweb-edu-a100": (124_475_904, 2_000 * 229_376),
    "gpt3-125m": (125_226_240, 19_073 * 524_288),
    "gpt2-finetune-wikitext": (124_439_808, None),
    "sft-chat": (124_475_904, None),
}
SEQ_LENS = (128, 256, 1024, 2048)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Folders of a few records, by their seq_len."""
    folder = tmp_path_factory.mktemp("recipes")
    text = "the cat sat on the mat " * 60_000
    Tokenizer.train([text], 257).save(str(folder / "tokenizer"))
    (folder / "text.txt").write_text(text)
    for seq_len in SEQ_LENS:
        options = RecordOptions(seq_len=seq_len, num_shards=1, val_fraction=0)
        make_tfrecords([str(folder / "text.txt")], str(folder / "tokenizer"), str(folder / str(seq_len)), options)
    return {seq_len: str(folder / str(seq_len)) for seq_len in SEQ_LENS}


@pytest.fixture
def planned(scripts):
    """Returns what `--dry_run` prints for some arguments."""

    def plan(*arguments):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            scripts[TRAIN]["main"]([*arguments, "--dry_run"])
        return json.loads(printed.getvalue())

    return plan


def seq_len_of(name):
    """The length of the rows that a recipe trains on."""
    return {"decoder-89m": 256, "decoder-304m": 256, "decoder-1b": 128, "gpt3-125m": 2048}.get(name, 1024)


def test_every_recipe_is_known_to_these_tests():
    assert recipe_names(RECIPES) == sorted(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_plans_the_published_model_and_length(planned, records, name):
    found = planned("--recipe", name, "--train_path", records[seq_len_of(name)])
    parameters, tokens = PUBLISHED[name]
    assert found["parameters"] == parameters
    assert tokens is None or found["tokens"] == tokens
    assert found["model_dir"].startswith(f"runs/{name}-")


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_batch_of_a_recipe_divides_over_its_pod(planned, records, name):
    config = planned("--recipe", name, "--train_path", records[seq_len_of(name)])["train_config"]
    assert (
        config["batch_size"] % (pod_named(read_recipe(name, RECIPES).pod).n_replicas * config["accumulation_steps"])
        == 0
    )


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_step_of_a_recipe_is_the_one_that_is_planned_in_a_tpus_precision(planned, records, name):
    """But for the steps, which records decide in a recipe of epochs, and for EOS, which they name too."""
    found = planned("--recipe", name, "--train_path", records[seq_len_of(name)], "--compute_dtype", "bfloat16")
    recipe = read_recipe(name, RECIPES)
    model, config = step_of(recipe)
    steps = found["train_config"]["total_steps"] if "steps" not in recipe.flags else config.total_steps
    assert {**config.to_dict(), "total_steps": steps} == found["train_config"]
    assert (model.document_eos_id is None) == (found["model_config"]["document_eos_id"] is None)
    assert {**model.to_dict(), "document_eos_id": None} == {**found["model_config"], "document_eos_id": None}


def test_flags_beside_a_recipe_win(planned, records):
    arguments = ["--recipe", "gpt2-fineweb-edu", "--train_path", records[1024], "--batch_size=8", "--beta_2", "0.99"]
    config = planned(*arguments)["train_config"]
    assert (config["batch_size"], config["beta_2"], config["warmup_steps"]) == (8, 0.99, 715)


def test_epochs_and_a_warmup_in_tokens_take_the_place_of_a_recipes_steps(planned, records):
    arguments = ["--recipe", "gpt2-fineweb-edu", "--train_path", records[1024], "--batch_size", "8"]
    found = planned(*arguments, "--epochs", "3", "--warmup_tokens", "8192")
    records_read = found["steps"] * 8
    assert 2.5 * found["train_records"] < records_read <= 3 * found["train_records"]
    assert (found["train_config"]["warmup_steps"], found["train_config"]["warmup_tokens"]) == (0, 8192)


def test_a_recipe_may_be_a_file_of_ones_own(planned, records, tmp_path):
    (tmp_path / "mine.toml").write_text(
        recipe_text('config_path = "gpt2"\nbatch_size = 2\nsteps = 7\njit_compile = false')
    )
    found = planned("--recipe", str(tmp_path / "mine.toml"), "--train_path", records[1024])
    assert (found["steps"], found["train_config"]["jit_compile"]) == (7, False)
    assert found["model_dir"].startswith("runs/mine-")


def recipe_text(flags, head='source = ""\ndata = ""\npublished = ""\ndiffers = ""\npod = "v3-8"'):
    return f"{head}\n[flags]\n{flags}\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (recipe_text("no_such_flag = 3"), "flags must be this script's.*no_such_flag"),
        (recipe_text("", head='source = ""'), "must be a recipe, and it lacks data"),
        (recipe_text("", head='colour = "red"'), "must be a recipe, and .*colour"),
        ("flags = 3", "must be a recipe"),
        ("[flags", "must be TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_in_a_sentence(scripts, tmp_path, text, message):
    (tmp_path / "wrong.toml").write_text(text)
    with pytest.raises(UserError, match=message):
        scripts[TRAIN]["parse"](["--recipe", str(tmp_path / "wrong.toml")])


@pytest.mark.parametrize(
    ("name", "message"),
    [("alibi-580", "did you mean alibi-580m"), ("llama", "name one of .*gpt3-125m"), ("none.toml", "none.toml")],
)
def test_an_unknown_recipe_is_refused_with_the_nearest(scripts, name, message):
    with pytest.raises((UserError, FileNotFoundError), match=message):
        scripts[TRAIN]["parse"](["--recipe", name])
