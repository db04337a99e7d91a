"""Numbers that nobody means: every numeric flag of every command takes them or refuses them in a sentence."""

import pytest
from command_line import EVALUATE, GENERATE, GOOD, INSPECT, RECORDS, TOKENIZER, TRAIN, call, to_arguments

HUGE = ["2147483648", "9223372036854775808", str(10**23), "9" * 4000]
ABSURD = [*HUGE, "-1", "0", "1e400", "-1e300", "nan", "9" * 5000, "\udce9"]
# Loading a model takes most of a second, so fewer values do for the commands that take many of them.
CASES = [(script, value) for script in (TRAIN, RECORDS, TOKENIZER, INSPECT) for value in ABSURD]
CASES += [(script, value) for script in (EVALUATE, GENERATE) for value in (str(10**23), "-1", "nan")]


def numeric_flags(parser):
    """Returns the names of the flags that argparse makes numbers of; absl's own are none of them."""
    return [action.dest for action in parser._actions if action.type in (int, float)]


@pytest.mark.parametrize(("script", "value"), CASES, ids=lambda part: part.encode("ascii", "replace").decode()[:30])
def test_an_absurd_number_is_taken_or_refused_in_a_sentence_that_names_its_flag(scripts, good, tmp_path, script, value):
    for name in numeric_flags(scripts[script]["build_parser"]()):
        changes = {name: None, **({"dry_run": True} if script == TRAIN else {})}
        changes |= {"steps": None} if name == "epochs" else {}
        flags = to_arguments({**GOOD[script], **changes}, {"good": good, "out": tmp_path / name})
        outcome = call(scripts[script]["main"], [*flags, f"--{name}={value}"])  # an exception fails the test
        assert outcome.status in (0, 2), (name, outcome.stderr)
        last_line = (outcome.stderr.splitlines() or [""])[-1]
        assert outcome.status == 0 or ("error: " in last_line and name in last_line), outcome.stderr
        assert len(last_line) < 1000 or "argument --" in last_line


def test_a_batch_that_no_memory_holds_is_a_sentence_that_names_the_flag(run_script, good, monkeypatch):
    from algpt2.evaluation.scorer import Scorer

    def target_nats(*_):
        raise MemoryError("cannot allocate 3 TiB")

    monkeypatch.setattr(Scorer, "target_nats", target_nats)
    outcome = run_script(EVALUATE, {"good": good})
    assert (outcome.status, outcome.stdout) == (2, "")
    assert "they do not (cannot allocate 3 TiB): lower --batch_size." in outcome.sentence
