"""eval/bits_per_byte.py and eval/ptb.py as commands: JSON on stdout, a table on stderr, a sentence for a mistake."""

import json
import math

import pytest
from command_line import call, to_arguments

BITS, PTB = "eval/bits_per_byte.py", "eval/ptb.py"
SENTENCES = " alpha beta did n't gamma \n <unk> delta $ N \n"


@pytest.fixture
def places(good, tmp_path):
    """What the braces in flags stand for: sound input, and some that is not."""
    fields = [{"text": "alpha beta", "meta": {"set": "b"}}, {"text": "gamma", "meta": {"set": "a"}}]
    (tmp_path / "sets.jsonl").write_text("".join(json.dumps(line) + "\n" for line in fields))
    (tmp_path / "ptb.test.txt").write_text(SENTENCES)
    (tmp_path / "blank.txt").write_text(" \n")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "latin1.txt").write_bytes("alpha çà".encode("latin1"))
    (tmp_path / "empty_folder").mkdir()
    return {"good": good, "here": tmp_path}


FLAGS = {
    BITS: {"checkpoint": "{good}/algpt2", "data": "{here}/sets.jsonl", "domain_key": "meta.set"},
    PTB: {"checkpoint": "{good}/algpt2", "data": "{here}/ptb.test.txt"},
}


@pytest.fixture
def run(scripts, places):
    """Calls a script with the flags above and some changes to them."""
    return lambda script, **changes: call(scripts[script]["main"], to_arguments({**FLAGS[script], **changes}, places))


def test_the_table_has_the_domains_that_the_result_has(run):
    outcome = run(BITS)
    result = outcome.result
    assert [one["domain"] for one in result["domains"]] == ["a", "b"]
    rows = [line for line in outcome.stderr.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| a", "| b", "| all"]
    assert result["checkpoint"].endswith("step_00000030")
    assert result["all"]["text_bytes"] == len("alpha beta") + len("gamma")


def test_several_files_are_domains_and_the_batch_size_changes_nothing(run):
    flags = {"data": ["{here}/sets.jsonl", "{good}/heldout.txt"], "domain_key": None}
    one, many = (run(BITS, **flags, batch_size=size).result for size in (1, 7))
    assert [d["domain"].split("/")[-1] for d in one["domains"]] == ["heldout.txt", "sets.jsonl"]
    assert one["all"]["total_nats"] == pytest.approx(many["all"]["total_nats"], rel=1e-6)


def test_both_variants_of_the_penn_treebank_are_scored_unless_one_is_asked_for(run):
    raw, written = run(PTB).result["variants"]
    assert (raw["variant"], written["variant"]) == ("raw", "detokenized")
    assert raw["words"] == written["words"] == 9
    assert raw["word_perplexity"] == pytest.approx(math.exp(raw["total_nats"] / 11))
    assert run(PTB, variant="detokenized").result["variants"] == [written]


@pytest.mark.parametrize(
    ("script", "changes", "parts"),
    [
        (BITS, {"data": "{here}/none.jsonl"}, ["{here}/none.jsonl"]),
        (BITS, {"data": "{here}/empty_folder"}, ["{here}/empty_folder"]),
        (BITS, {"data": "{here}/empty.txt", "domain_key": None}, ["all 1 are empty"]),
        (BITS, {"data": "{here}/latin1.txt", "domain_key": None}, ["must be UTF-8", "{here}/latin1.txt"]),
        (BITS, {"domain_key": "meta.kind"}, ["'meta.kind' must be a string", "sets.jsonl, line 1"]),
        (BITS, {"text_key": "body"}, ["must have the key 'body'", "--text_key"]),
        (BITS, {"stride": 0}, ["--stride must be from 1 to the model's seq_len 16", "received 0"]),
        (BITS, {"batch_size": 0}, ["batch_size must be at least 1", "received 0"]),
        (BITS, {"checkpoint": "{here}/empty_folder"}, ["--checkpoint must be"]),
        (PTB, {"data": "{here}/blank.txt"}, ["at least one word"]),
        (PTB, {"data": "{here}/empty.txt"}, ["must hold text"]),
        (PTB, {"data": "{here}/none.txt"}, ["must exist"]),
        (PTB, {"stride": 17}, ["--stride must be from 1 to the model's seq_len 16", "received 17"]),
        (PTB, {"checkpoint": "{here}/empty_folder"}, ["--checkpoint must be"]),
    ],
)
def test_a_mistake_is_one_sentence_and_status_2(run, places, script, changes, parts):
    outcome = run(script, **changes)
    assert (outcome.status, outcome.stdout) == (2, "")
    for part in parts:
        assert part.format(**places) in outcome.sentence
