"""A study's TOML file: what it says, and what is refused in one sentence."""

import pytest
from places import REPOSITORY
from tiny_study import SELECTING, SPEC

from algpt2.config.model import GPTConfig
from algpt2.errors import UserError
from algpt2.studies.spec import Gap, Pair, load_spec, parse_spec

ARM = "\n[arms.wide]\nmodel = { d_model = 64 }\n"
GAP = '\n[[gaps]]\narm = "shared"\ncontrol = "gpt2"\nchanged = "wide"\nchanged_control = "gpt2"\n'


def written(tmp_path, text):
    path = tmp_path / "study.toml"
    path.write_text(text)
    return str(path)


def test_an_arm_is_the_base_with_the_fields_that_differ(tmp_path):
    spec = load_spec(written(tmp_path, SELECTING + ARM + "training = { weight_decay = 0 }\nlearning_rates = [0.5]\n"))
    gpt2, shared, wide = spec.arms
    assert [arm.name for arm in spec.arms] == ["gpt2", "shared", "wide"]
    config = GPTConfig(vocab_size=300, seq_len=16, n_layer=2, n_head=2, d_model=32, dropout=0.0)
    assert spec.model_config(gpt2) == config
    assert spec.model_config(shared).n_block == 1
    assert spec.model_config(wide).d_model == 64
    train_config = spec.train_config(wide, 0.5, 12)
    assert (train_config.learning_rate, train_config.seed, train_config.weight_decay) == (0.5, 12, 0)
    assert (train_config.total_steps, train_config.batch_size) == (1280 // (4 * 16), 4)
    assert spec.train_config(gpt2, 1e-3, 1).weight_decay == 0.1
    assert (gpt2.learning_rates, wide.learning_rates) == ((1e-3, 3e-3), (0.5,))
    assert spec.pairs == (Pair(("shared", "gpt2")),)


def test_arms_that_differ_in_a_bug_alone_are_two():
    text = SPEC.replace("batch_size = 4,", 'batch_size = 4, optimizer = "adafactor",')
    without, _, arm = parse_spec(text + '\n[arms.old]\nbugs = ["adafactor_without_memory"]\n').arms
    assert (without.bugs, arm.bugs) == ((), ("adafactor_without_memory",))


def test_comments_and_the_order_of_rates_do_not_make_another_study():
    spec = parse_spec(SELECTING)
    assert parse_spec("# The result.\n" + SELECTING.replace("[1e-3, 3e-3]", "[3e-3, 0.001]")) == spec
    assert parse_spec(SELECTING.replace("0.1 bits", "0.2 bits")) != spec


def test_a_cell_may_have_more_tokens_than_a_run_has_steps():
    spec = parse_spec(SPEC.replace("1280", str(64 * 10**9)))
    assert spec.train_config(spec.arms[0], 0.01, 1).total_steps == 10**9


def test_gaps_name_their_arms():
    assert parse_spec(SPEC + ARM + GAP).gaps == (Gap("shared", "gpt2", "wide", "gpt2"),)


def test_the_specs_of_the_repository_are_sound():
    paths = sorted((REPOSITORY / "ablations").glob("*.toml"))
    assert paths
    for path in paths:
        load_spec(str(path))


CASES = {
    "not TOML": ("question = ", "question = =", "must describe a study in TOML, and it is not TOML"),
    "an unknown key": ("tokens =", "colour = 1\ntokens =", "unknown keys ['colour']"),
    "an unknown key of an arm": ("[arms.gpt2]", "[arms.gpt2]\ncolour = 1", "its arms.gpt2 has unknown keys ['colour']"),
    "a key left out": ('question = "What does sharing cost?"\n', "", "lacks question"),
    "a date": ("tokens = 1280", "tokens = 2020-01-01", "its tokens is a date"),
    "another type": ("tokens = 1280", 'tokens = "many"', 'its tokens is "many", not a whole number'),
    "an empty question": ('"What does sharing cost?"', '" "', "question must be a text"),
    "an empty rule": ('"Sharing is kept if it costs less than 0.1 bits per byte."', '""', "decision must be a text"),
    "tokens that are no whole batches": ("1280", "1300", "1280 is the nearest"),
    "no tokens": ("1280", "0", "tokens must be above 0"),
    "fewer tokens than a batch": ("1280", "5", "64 is the nearest"),
    "no seeds": ("[11, 12]", "[]", "must have seeds"),
    "a seed twice": ("[11, 12]", "[11, 11]", "different from each other"),
    "a negative seed": ("[11, 12]", "[-1]", "whole numbers in [0, 2^31)"),
    "seeds of both stages": ("[11, 12]", "[11, 12]\nselection_seeds = [12]", "must be fresh, and 12 is among"),
    "rates without selection": ("[1e-2]", "[1e-2, 1e-3]", "must have selection_seeds to choose one by"),
    "no rates": ("[1e-2]", "[]", "learning_rates must be one or more finite numbers above 0, received []"),
    "a rate of 0": ("[1e-2]", "[0]", "above 0"),
    "an endless rate": ("[1e-2]", "[inf]", "finite numbers above 0"),
    "a negative rate of an arm": ("[arms.gpt2]", "[arms.gpt2]\nlearning_rates = [-1.0]", "arms.gpt2.learning_rates"),
    "a rate twice": ("[1e-2]", "[1e-2, 0.01]", "different from each other"),
    "too much growth": ("tokens =", "most_extra_rates = 99\ntokens =", "most_extra_rates must be from 0 to 20"),
    "a field that does not exist": ("share_layers = true", "share = true", "has 'share': name one of vocab_size"),
    "a training field that does not exist": ("batch_size = 4", "batch_sise = 4", "base.training must have fields of"),
    "a field of the study": ("batch_size = 4", "batch_size = 4, seed = 3", "must leave seed to the study"),
    "a field of another type": ("share_layers = true", 'share_layers = "yes"', "arms.shared.model.share_layers"),
    "a wrong value": ("n_head = 2", "n_head = 3", "d_model must be a multiple of n_head"),
    "a wrong batch size": ("batch_size = 4", "batch_size = 0", "batch_size must be a whole number"),
    "no preset": ("gpt2-tiny", "gpt5", "a preset must be one of"),
    "two arms alike": ("share_layers = true", "share_layers = false", "shared is the same as gpt2"),
    "a bug that nobody had": ("[arms.gpt2]", '[arms.gpt2]\nbugs = ["typo"]', "in the arm gpt2, a bug must be one of"),
    "a bug of another optimizer": (
        *("[arms.gpt2]", '[arms.gpt2]\nbugs = ["adafactor_without_memory"]'),
        "needs optimizer adafactor, received adamw",
    ),
    "no arms": (SPEC[SPEC.index("[arms.gpt2]") :], "[arms]\n", "one or more tables [arms.NAME]"),
    "a name that is no folder's": ("[arms.gpt2]", '[arms."../gpt2"]', "an arm's name must be of letters"),
    "a pair of an unknown arm": ('["shared", "gpt2"]', '["shared", "gpt3"]', "received 'gpt3'"),
    "a pair of one arm": ('["shared", "gpt2"]', '["gpt2", "gpt2"]', "two different arms"),
    "a gap of an unknown arm": ("[[pairs]]", GAP + "[[pairs]]", "received 'wide'"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_study_that_is_wrong_is_refused_in_one_sentence(case, tmp_path):
    before, after, sentence = CASES[case]
    assert SPEC.count(before) == 1 or case == "tokens that are no whole batches"
    path = written(tmp_path, SPEC.replace(before, after))
    with pytest.raises(UserError) as raised:
        load_spec(path)
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)
    assert path in str(raised.value)


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path):
    with pytest.raises(UserError, match="nothing is at"):
        load_spec(str(tmp_path / "none.toml"))
    (tmp_path / "latin.toml").write_bytes(b"question = '\xe9'")
    with pytest.raises(UserError, match="not UTF-8"):
        load_spec(str(tmp_path / "latin.toml"))


def test_an_arm_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(UserError, match="must be one of gpt2, shared, received 'gpt3'"):
        parse_spec(SPEC).arm("gpt3")
