"""Runs side by side: every number is the one its file has, and chance is worked out for scale."""

import json

import pytest

from algpt2.errors import UserError
from algpt2.records.record_set import RecordSet
from algpt2.records.shard_entry import Shard
from algpt2.tracking.comparison import COLUMNS, compare_runs, format_table

RESULT = {"parameters": 1234567, "val_loss": 2.5, "val_bits_per_byte": 1.25, "tokens_per_second": 98765.4}
EVALUATION = {"bits_per_byte": 1.5, "scored_tokens": 10, "scored_bytes": 40}


# 3 records of 4 tokens, of 256 equally likely ones: 12 x 8 bits for 24 bytes.
VAL_RECORDS = RecordSet(
    files=(),
    shards=(
        Shard("val-0", records=1, size_bytes=0, crc32c="0" * 8, target_bytes=4),
        Shard("val-1", records=2, size_bytes=0, crc32c="0" * 8, target_bytes=20),
    ),
    folder="data",
    seq_len=4,
    vocab_size=256,
    eos_id=255,
    tokenizer_sha256="ab" * 32,
)


@pytest.fixture
def finish(tmp_path):
    """Writes the result of a finished run; returns the run's folder."""

    def finish(name, **changes):
        folder = tmp_path / name
        folder.mkdir()
        fields = {"model_dir": str(folder), **RESULT, **changes}
        (folder / "result.json").write_text(json.dumps({k: v for k, v in fields.items() if v != "absent"}))
        return str(folder)

    return finish


@pytest.fixture
def evaluate(tmp_path):
    """Writes the result of an evaluation; returns the file's name."""

    def evaluate(name, **changes):
        (tmp_path / name).write_text(json.dumps({**EVALUATION, **changes}))
        return str(tmp_path / name)

    return evaluate


def test_a_model_that_knows_nothing_is_worked_out_from_the_validation_records(finish):
    uniform, _ = compare_runs([finish("a")], [], VAL_RECORDS)
    assert list(uniform) == list(COLUMNS)
    assert (uniform["model"], uniform["parameters"], uniform["tokens/s"]) == ("uniform", 0, None)
    assert uniform["validation loss"] == pytest.approx(5.545177)  # ln 256
    assert uniform["bits per byte"] == pytest.approx(4.0)
    assert uniform["held-out bits per byte"] is None


def test_what_it_would_score_on_the_held_out_text_follows_from_the_evaluations_counts(finish, evaluate):
    uniform, _ = compare_runs([finish("a")], [evaluate("e")], VAL_RECORDS)
    assert uniform["held-out bits per byte"] == pytest.approx(10 * 8 / 40)


def test_a_run_is_shown_with_its_own_numbers_under_its_folders_name(finish, evaluate):
    folders = [finish("a"), finish("b", parameters=5, val_loss=3.0) + "/"]
    evaluations = [evaluate("e"), evaluate("f", bits_per_byte=1.75)]
    _, first, second = compare_runs(folders, evaluations, VAL_RECORDS)
    assert list(first.values()) == ["a", 1234567, 2.5, 1.25, 1.5, 98765.4]
    assert list(second.values()) == ["b", 5, 3.0, 1.25, 1.75, 98765.4]


def test_what_a_run_did_not_measure_is_unknown(finish):
    folder = finish("a", val_loss="absent", val_bits_per_byte="absent", tokens_per_second=None)
    _, row = compare_runs([folder], [], VAL_RECORDS)
    assert list(row.values()) == ["a", 1234567, None, None, None, None]


def test_a_run_that_has_not_finished_is_refused_by_name(finish, tmp_path):
    with pytest.raises(UserError, match=f"must have finished to be compared, and {tmp_path}/b has no result.json"):
        compare_runs([finish("a"), str(tmp_path / "b")], [], VAL_RECORDS)


@pytest.mark.parametrize("count", [1, 3])
def test_another_number_of_evaluations_than_of_runs_is_refused(finish, evaluate, count):
    evaluations = [evaluate(str(i)) for i in range(count)]
    with pytest.raises(UserError, match=f"one evaluation for each run or none, received {count} for 2 runs"):
        compare_runs([finish("a"), finish("b")], evaluations, VAL_RECORDS)


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ("tokens_per_second", "x", 'its tokens_per_second is "x", not a number'),
        ("model_dir", [], "its model_dir is a list, not a string"),
        ("val_loss", 10**400, "its val_loss is beyond all floats"),
        ("parameters", True, "its parameters is true, not a whole number"),
    ],
)
def test_a_result_with_a_value_of_another_kind_is_refused(finish, tmp_path, key, value, found):
    finish("a")
    file = tmp_path / "a" / "result.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(UserError, match=found):
        compare_runs([str(tmp_path / "a")], [], VAL_RECORDS)


@pytest.mark.parametrize(
    ("content", "found"),
    [(b"{", "Expecting"), (b"", "Expecting"), (b"[]", "a list"), (b"\xff", "utf-8"), (b'{"a": 1}', "it lacks ")],
)
def test_a_file_of_another_kind_is_refused_with_what_makes_such_files(finish, tmp_path, content, found):
    (tmp_path / "wrong").write_bytes(content)
    with pytest.raises(UserError, match=rf"{tmp_path}/wrong must be .* eval/wikitext.py writes it.*{found}"):
        compare_runs([finish("a")], [str(tmp_path / "wrong")], VAL_RECORDS)
    (tmp_path / "a" / "result.json").write_bytes(content)
    with pytest.raises(UserError, match=rf"a/result.json must be .* train_tfrecords.py writes it.*{found}"):
        compare_runs([str(tmp_path / "a")], [], VAL_RECORDS)


def test_the_table_is_aligned_markdown_with_a_dash_for_what_is_unknown(finish):
    rows = compare_runs([finish("albert-kind", val_bits_per_byte="absent")], [], VAL_RECORDS)
    assert format_table(rows).splitlines() == [
        "| model       | parameters | validation loss | bits per byte | held-out bits per byte | tokens/s |",
        "| ----------- | ---------- | --------------- | ------------- | ---------------------- | -------- |",
        "| uniform     | 0          | 5.545           | 4.000         | -                      | -        |",
        "| albert-kind | 1,234,567  | 2.500           | -             | -                      | 98,765   |",
    ]
