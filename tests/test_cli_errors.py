"""One sentence, status 2 and nothing written: what becomes of wrong input and wrong command lines."""

import pytest
from command_line import (
    COMPARE,
    DEMO,
    EVALUATE,
    GENERATE,
    GOOD,
    INSPECT,
    RECORDS,
    STEPS,
    TOKENIZER,
    TRAIN,
    VERIFY,
    call,
    case_name,
    snapshot,
)
from wrong_input import write_wrong_input

from algpt2 import cli
from algpt2.devices import strategies
from algpt2.errors import TrainingStopped, UserError


@pytest.fixture(scope="module")
def bad(good, tmp_path_factory):
    """A folder of everything that is wrong. Read only."""
    folder = tmp_path_factory.mktemp("bad")
    write_wrong_input(folder, good)
    return folder


# (script, what is changed of its command line, what the sentence must say). {occupied} is a folder that holds a
# file of the user's, {file} a file where a folder is meant.
NOTHING_THERE = "nothing is at '{bad}/none'"
REFUSED = [
    (DEMO, {"output": "{occupied}"}, "must be new or empty", "{occupied}"),
    (DEMO, {"output": "{file}/out"}, "{file}", "is not a folder"),
    (DEMO, {"output": ""}, "must have a name"),
    #
    (TOKENIZER, {"input": "{bad}/none"}, NOTHING_THERE),
    (TOKENIZER, {"input": ["{good}/corpus.jsonl", "{bad}/none"]}, NOTHING_THERE),
    (TOKENIZER, {"input": "{bad}/empty_folder"}, "nothing is at '{bad}/empty_folder'"),
    (TOKENIZER, {"input": "{bad}/empty.jsonl"}, "at least one document"),
    (TOKENIZER, {"input": "{bad}/blank.jsonl"}, "at least one document"),
    (TOKENIZER, {"input": "{bad}/latin1.txt"}, "must be UTF-8", "byte 3 ", "{bad}/latin1.txt"),
    (TOKENIZER, {"input": "{bad}/latin1.jsonl"}, "must be UTF-8", "byte 24 ", "{bad}/latin1.jsonl"),
    (TOKENIZER, {"input": "{bad}/wrong_line.jsonl"}, "must be a JSON object", "{bad}/wrong_line.jsonl, line 2"),
    (TOKENIZER, {"input": "{bad}/no_text.jsonl"}, "the key 'text'", "{bad}/no_text.jsonl, line 2", "['body']"),
    (TOKENIZER, {"input": "{bad}/no_text.jsonl", "text_key": "body"}, "the key 'body'", "line 1", "--text_key"),
    (TOKENIZER, {"input": "{bad}/number.jsonl"}, "'text' must be a string", "line 1", "int"),
    (TOKENIZER, {"input": "{bad}/table.csv"}, "must end in", "{bad}/table.csv"),
    (TOKENIZER, {"vocab_size": 256}, "at least 257", "received 256"),
    (TOKENIZER, {"output": "{occupied}"}, "must be new or empty", "{occupied}"),
    (TOKENIZER, {"output": "{file}"}, "must be new or empty", "{file}"),
    (TOKENIZER, {"output": "{file}/out"}, "{file}", "is not a folder"),
    (TOKENIZER, {"output": "{file}/deep/out"}, "{file}", "is not a folder"),
    (TOKENIZER, {"output": ""}, "must have a name"),
    (TOKENIZER, {"output": "{long_name}"}, "name too long"),
    #
    (RECORDS, {"input": "{bad}/none"}, NOTHING_THERE),
    (RECORDS, {"input": "{bad}/empty_folder"}, "nothing is at '{bad}/empty_folder'"),
    (RECORDS, {"input": "{bad}/empty.jsonl"}, "at least one document"),
    (RECORDS, {"input": "{bad}/latin1.jsonl"}, "must be UTF-8", "byte 24 ", "{bad}/latin1.jsonl"),
    (RECORDS, {"input": "{bad}/wrong_line.jsonl"}, "must be a JSON object", "{bad}/wrong_line.jsonl, line 2"),
    (RECORDS, {"input": "{bad}/no_text.jsonl"}, "the key 'text'", "{bad}/no_text.jsonl, line 2"),
    (RECORDS, {"tokenizer": "{bad}/none"}, "must hold tokenizer.json", "{bad}/none"),
    (RECORDS, {"tokenizer": "{bad}/empty_folder"}, "must hold tokenizer.json", "{bad}/empty_folder"),
    (RECORDS, {"tokenizer": "{bad}/half_tokenizer"}, "vocab.json and merges.txt", "{bad}/half_tokenizer"),
    (RECORDS, {"tokenizer": "{good}/corpus.jsonl"}, "must hold tokenizer.json", "{good}/corpus.jsonl"),
    (RECORDS, {"seq_len": 0}, "seq_len must be at least 1", "received 0"),
    (RECORDS, {"seq_len": 10**5}, "at least 3 records", "--seq_len"),
    (RECORDS, {"num_shards": 0}, "num_shards must be at least 1", "received 0"),
    (RECORDS, {"val_fraction": 1}, "val_fraction must be from 0 to below 1", "received 1.0"),
    (RECORDS, {"val_fraction": "nan"}, "val_fraction must be from 0 to below 1", "received nan"),
    (RECORDS, {"output": "{occupied}"}, "must be new or empty", "{occupied}"),
    (RECORDS, {"output": "{file}/out"}, "{file}", "is not a folder"),
    (RECORDS, {"output": ""}, "must have a name"),
    (RECORDS, {"beam_option": "region=here"}, "--beam_option needs a runner", "--beam_runner"),
    (RECORDS, {"beam_runner": "DirectRunner", "num_workers": 2}, "--num_workers must not stand beside --beam_runner"),
    (RECORDS, {"beam_runner": "DirectRunner"}, "--beam_runner needs Apache Beam", "constraints-beam.txt"),
    #
    (INSPECT, {"input": "{bad}/none"}, "must hold manifest.json", "{bad}/none"),
    (INSPECT, {"input": "{bad}/no_manifest"}, "must hold manifest.json", "{bad}/no_manifest"),
    (INSPECT, {"input": "{bad}/wrong_manifest"}, "must be a manifest", "{bad}/wrong_manifest"),
    (INSPECT, {"input": "{bad}/no_tokenizer"}, "must hold tokenizer.json", "{bad}/no_tokenizer"),
    (INSPECT, {"input": "{bad}/swapped_tokenizer"}, "must be the one", "{bad}/swapped_tokenizer"),
    (INSPECT, {"input": "{bad}/missing_shard"}, "train-00000-of-00003.tfrecord is missing"),
    (INSPECT, {"input": "{bad}/truncated"}, "train-00000-of-00003.tfrecord must have", "truncated"),
    (INSPECT, {"input": "{bad}/changed"}, "train-00000-of-00003.tfrecord must have CRC32C", "damaged"),
    (INSPECT, {"input": "{bad}/changed_data"}, "a shard is damaged (corrupted record at "),
    (INSPECT, {"input": "{bad}/foreign_id"}, "a record is not what its manifest says", "below vocab_size"),
    (VERIFY, {"input": "{bad}/changed"}, "train-00000-of-00003.tfrecord has crc32c", "copy it again"),
    (VERIFY, {"input": "{bad}/missing_shard"}, "train-00000-of-00003.tfrecord is missing"),
    (VERIFY, {"input": "{bad}/foreign_val_id"}, "every token id must be below vocab_size", "val-00000"),
    (VERIFY, {"num_workers": 2}, "--num_workers is for --repair"),
    (INSPECT, {"count": -1}, "at least 0", "received -1"),
    #
    (TRAIN, {"train_path": "{bad}/none"}, "--train_path must name", NOTHING_THERE),
    (TRAIN, {"val_path": "{bad}/none"}, "--val_path must name", NOTHING_THERE),
    (TRAIN, {"train_path": "{bad}/empty_folder"}, "--train_path must name", "{bad}/empty_folder"),
    (TRAIN, {"train_path": "{bad}/no_manifest"}, "must hold manifest.json", "{bad}/no_manifest"),
    (TRAIN, {"train_path": "{bad}/wrong_manifest"}, "must be a manifest", "{bad}/wrong_manifest"),
    (TRAIN, {"train_path": "{bad}/missing_shard"}, "train-00000-of-00003.tfrecord is missing"),
    (TRAIN, {"train_path": "{bad}/truncated"}, "train-00000-of-00003.tfrecord must have", "truncated"),
    (TRAIN, {"train_path": "{bad}/changed"}, "train-00000-of-00003.tfrecord must have CRC32C", "damaged"),
    (TRAIN, {"train_path": "{good}/corpus.jsonl"}, "must hold manifest.json", "{good}"),
    (TRAIN, {"train_path": "{bad}/no_tokenizer"}, "must hold tokenizer.json", "{bad}/no_tokenizer"),
    (TRAIN, {"train_path": "{bad}/swapped_tokenizer"}, "must be the one", "{bad}/swapped_tokenizer"),
    (TRAIN, {"val_path": "{bad}/other_records"}, "--val_path must name shards with records", "no val records"),
    (TRAIN, {"val_path": "{bad}/other_records/train-*"}, "same tokenizer", "{bad}/other_records"),
    (TRAIN, {"config_path": "{bad}/long.json"}, "same seq_len", "has 16", "--seq_len 16"),
    (TRAIN, {"config_path": "{bad}/small.json"}, "vocab_size must be at least the tokenizer's", "the model has 257"),
    (TRAIN, {"config_path": "{bad}/heads.json"}, "multiple of n_head", "d_model=32", "n_head=3"),
    (TRAIN, {"config_path": "{bad}/unknown_key.json"}, "unknown keys ['n_layers']", "{bad}/unknown_key.json"),
    (TRAIN, {"config_path": "{bad}/not.json"}, "must be a JSON object", "{bad}/not.json"),
    (TRAIN, {"config_path": "{bad}/list.json"}, "must be a JSON object", "{bad}/list.json"),
    (TRAIN, {"config_path": "{bad}/none.json"}, "--config_path must be a preset (", "received '{bad}/none.json'"),
    (TRAIN, {"config_path": "gpt5"}, "--config_path must be a preset (", "received 'gpt5'"),
    (TRAIN, {"config_path": None}, "--config_path must name a model"),
    (TRAIN, {"model_type": "gpt2"}, "--model_type must be the type of --config_path, which is algpt2", "gpt2"),
    (TRAIN, {"batch_size": 0}, "--batch_size must be at least 1", "received 0"),
    (TRAIN, {"batch_size": -4}, "--batch_size must be at least 1", "received -4"),
    (TRAIN, {"accumulation_steps": 3}, "multiple of replicas x accumulation_steps = 1 x 3", "received 4: 6"),
    (TRAIN, {"steps": 0}, "--steps must be at least 1", "received 0"),
    (TRAIN, {"steps": None, "epochs": 0}, "at least one full batch", "0.0 epochs"),
    (TRAIN, {"steps": None, "batch_size": 10**6}, "at least one full batch", "--batch_size"),
    (TRAIN, {"warmup_steps": STEPS + 1}, f"warmup_steps must be at most {STEPS}", f"received {STEPS + 1}"),
    (TRAIN, {"learning_rate": "nan"}, "learning_rate must be above 0", "received nan"),
    (TRAIN, {"save_every_steps": 0}, "save_every_steps must be at least 1", "received 0"),
    (TRAIN, {"tpu": "grpc://127.0.0.1:1"}, "reads its data from gs:// only", "{good}/records", "--tpu local"),
    (TRAIN, {"model_dir": ""}, "--model_dir must name a folder"),
    (TRAIN, {"model_dir": "{occupied}"}, "must be new or empty", "{occupied}"),
    (TRAIN, {"model_dir": "{file}"}, "--model_dir must be a folder", "{file}"),
    (TRAIN, {"model_dir": "{bad}/run_folder"}, "run.json must be a file in --model_dir", "{bad}/run_folder/run.json"),
    (TRAIN, {"model_dir": "{bad}/lock_folder"}, ".lock must be a file in --model_dir", "{bad}/lock_folder/.lock"),
    (TRAIN, {"model_dir": "{bad}/checkpoints_file"}, "checkpoints must be a folder in --model_dir", "move it away"),
    (TRAIN, {"train_path": "{bad}/changed_data"}, "a shard is damaged (corrupted record at "),
    (TRAIN, {"val_path": "{bad}/changed_val_data"}, "a shard is damaged (corrupted record at "),
    (TRAIN, {"val_path": "{bad}/foreign_val_id"}, "a record is not what its manifest says", "below vocab_size"),
    (TRAIN, {"model_dir": "{file}/out"}, "{file}", "is not a folder"),
    (TRAIN, {"model_dir": "{good}/algpt2", "seed": 1}, "differs in seed: 0, now 1"),
    (TRAIN, {"model_dir": "{good}/gpt2"}, "embedding_size: None, now 8", "{good}/gpt2"),
    (TRAIN, {"model_dir": "{bad}/wrong_result"}, "{bad}/wrong_result/result.json must"),
    #
    (COMPARE, {"run": "{bad}/none"}, "must have finished", "{bad}/none"),
    (COMPARE, {"run": "{bad}/unfinished"}, "must have finished", "{bad}/unfinished"),
    (COMPARE, {"run": "{bad}/wrong_result"}, "{bad}/wrong_result/result.json must"),
    (COMPARE, {"val_path": "{bad}/none"}, "--val_path must name", NOTHING_THERE),
    (COMPARE, {"evaluation": "{good}/gpt2.evaluation.json"}, "one evaluation for each run", "received 1 for 2"),
    (COMPARE, {"evaluation": ["{bad}/none", "{bad}/none"]}, "'{bad}/none'", "No such file"),
    (COMPARE, {"evaluation": ["{bad}/not.json"] * 2}, "{bad}/not.json must"),
    (COMPARE, {"evaluation": ["{bad}/list.json"] * 2}, "{bad}/list.json must"),
    (COMPARE, {"evaluation": ["{bad}/evaluation_without_scores.json"] * 2}, "eval/wikitext.py", "scores.json must"),
    #
    (EVALUATE, {"checkpoint": "{bad}/none"}, "--checkpoint must be", "{bad}/none"),
    (EVALUATE, {"checkpoint": "{bad}/empty_folder"}, "--checkpoint must be", "{bad}/empty_folder"),
    (EVALUATE, {"checkpoint": "{bad}/flipped"}, "{bad}/flipped", "model.safetensors has another SHA-256"),
    (EVALUATE, {"checkpoint": "{bad}/flipped/checkpoints/step_00000010"}, "SHA-256", "step_00000010"),
    (EVALUATE, {"checkpoint": "{bad}/no_tensors/checkpoints/step_00000030"}, "model.safetensors is missing"),
    (EVALUATE, {"checkpoint": "{bad}/wrong_marker/checkpoints/step_00000030"}, "COMMITTED"),
    (EVALUATE, {"data": "{bad}/none"}, "a text file must exist", "{bad}/none"),
    (EVALUATE, {"data": "{bad}"}, "a folder must hold one test file, as wiki.test.raw, and {bad} holds 0 among"),
    (EVALUATE, {"data": "{bad}/empty_folder"}, "must be a file, and {bad}/empty_folder is a folder"),
    (EVALUATE, {"protocol": None}, "article headings", "harness, megatron, gpt2-paper", "--protocol raw"),
    (EVALUATE, {"protocol": ["raw", "hf-overlap"], "stride": 4}, "--stride must go with", "hf-overlap have their own"),
    (EVALUATE, {"data": None, "download": "{file}/deeper"}, "{file}", "is not a folder"),
    (EVALUATE, {"data": "{bad}/empty.jsonl"}, "must hold text", "{bad}/empty.jsonl"),
    (EVALUATE, {"data": "{bad}/spaces.txt"}, "at least one word and one token"),
    (EVALUATE, {"data": "{bad}/short.txt"}, "must fill a window of 16 tokens", "raw", "eval/bits_per_byte.py"),
    (EVALUATE, {"data": "{bad}/latin1.txt"}, "must be UTF-8", "byte 3 ", "{bad}/latin1.txt"),
    (EVALUATE, {"stride": 0}, "--stride must be from 1 to the model's seq_len 16", "received 0"),
    (EVALUATE, {"stride": 17}, "--stride must be from 1 to the model's seq_len 16", "received 17"),
    (EVALUATE, {"batch_size": 0}, "batch_size must be at least 1", "received 0"),
    #
    (GENERATE, {"checkpoint": "{bad}/none"}, "--checkpoint must be", "{bad}/none"),
    (GENERATE, {"checkpoint": "{bad}/flipped"}, "{bad}/flipped", "model.safetensors has another SHA-256"),
    (GENERATE, {"prompt": "alpha " * 20}, "must fit into the model's 16 positions", "takes 22 of them"),
    (GENERATE, {"max_new_tokens": 16}, "must fit into the model's 16 positions", "--max_new_tokens 16"),
    (GENERATE, {"max_new_tokens": 0}, "max_new_tokens must be at least 1", "received 0"),
    (GENERATE, {"top_p": 0}, "top_p must be in (0, 1]", "received 0.0"),
    (GENERATE, {"prompt": "caf\udce9"}, "the prompt must be UTF-8"),
]


@pytest.mark.parametrize("case", REFUSED, ids=case_name)
def test_what_is_wrong_is_said_in_one_sentence_and_nothing_is_written(run_script, good, bad, tmp_path, case):
    script, changes, *expected = case
    (tmp_path / "occupied").mkdir()
    for name in ("occupied/thesis.txt", "file"):
        (tmp_path / name).write_text("mine")
    places = {name: tmp_path / name for name in ("out", "occupied", "file")}
    places |= {"good": good, "bad": bad, "long_name": tmp_path / ("x" * 300)}
    before = [snapshot(folder) for folder in (tmp_path, good, bad)]
    outcome = run_script(script, places, **changes)
    assert (outcome.status, outcome.stdout) == (2, "")
    for part in expected:
        assert part.format(**places) in outcome.sentence
    assert [snapshot(folder) for folder in (tmp_path, good, bad)] == before


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ("foreign_id", "a record is not what its manifest says (every token id must be below vocab_size = "),
        ("foreign_val_id", "a record is not what its manifest says (every token id must be below vocab_size = "),
        ("changed_data", "a shard is damaged (corrupted record at "),
        ("changed_val_data", "a shard is damaged (corrupted record at "),
    ],
)
def test_a_bad_record_that_only_reading_shows_is_one_sentence_while_training(
    run_script, good, bad, tmp_path, records, expected
):
    outcome = run_script(
        TRAIN,
        {"good": good, "bad": bad, "out": tmp_path / "out"},
        **{"train_path": f"{{bad}}/{records}", "val_path": f"{{bad}}/{records}"},
        **{"steps": None, "epochs": 1, "save_every_steps": 10**6},
    )
    assert (outcome.status, outcome.stdout) == (2, "")
    assert expected in outcome.sentence
    assert not list(tmp_path.rglob("COMMITTED"))
    assert not list(tmp_path.rglob("result.json"))


def test_a_batch_that_does_not_divide_among_the_replicas_is_refused(run_script, good, tmp_path, monkeypatch):
    from tiny_step import TWO, strategy_of

    monkeypatch.setattr(strategies, "create_strategy", lambda tpu: strategy_of(TWO))
    outcome = run_script(TRAIN, {"good": good, "out": tmp_path / "out"}, batch_size=3)
    assert outcome.status == 2
    assert "multiple of replicas x accumulation_steps = 2 x 1, received 3: 4 would do" in outcome.sentence
    assert not (tmp_path / "out").exists()


def test_a_tpu_that_cannot_be_reached_is_refused_before_anything_is_written(run_script, good, tmp_path, monkeypatch):
    monkeypatch.setattr(strategies, "require_readable_by_tpu", lambda tpu, paths: None)
    outcome = run_script(TRAIN, {"good": good, "out": tmp_path / "out"}, tpu="grpc://127.0.0.1:1")
    assert outcome.status == 2
    assert "--tpu must name a TPU that this machine can reach, received 'grpc://127.0.0.1:1'" in outcome.sentence
    assert not (tmp_path / "out").exists()


def test_a_damaged_newest_checkpoint_is_passed_over_for_the_one_before_it(run_script, bad, outcomes):
    result = run_script(GENERATE, {"good": bad}, checkpoint="{good}/no_tensors").result
    assert result["checkpoint"].endswith("step_00000020")


@pytest.mark.parametrize(
    ("script", "changes", "named"),
    [
        (TRAIN, {"learning_rates": 1}, "--learning_rates"),
        (TRAIN, {"train_path": None}, "--train_path"),
        (TRAIN, {"epochs": 1.0}, "--epochs"),
        (TRAIN, {"steps": 1.5}, "--steps"),
        (TRAIN, {"model_type": "bert"}, "--model_type"),
        (TRAIN, {"optimizer": "sgd"}, "--optimizer"),
        (TRAIN, {"verbosity": "loud"}, "verbosity"),
        (TRAIN, {"flagfile": "{bad}/none"}, "{bad}/none"),
        (TOKENIZER, {"vocab": 300}, "--vocab"),
        (RECORDS, {"tokenizer": None}, "--tokenizer"),
        (INSPECT, {"split": "test"}, "--split"),
        (COMPARE, {"run": None}, "--run"),
        (DEMO, {"output": None}, "--output"),
        (EVALUATE, {"protocol": "lm1b"}, "--protocol"),
        (EVALUATE, {"data": None}, "--data --download is required"),
        (EVALUATE, {"download": "{out}"}, "not allowed with argument --data"),
        (GENERATE, {"temprature": 1}, "--temprature"),
    ],
)
def test_a_wrong_command_line_ends_with_status_2_and_names_the_flag(
    run_script, good, bad, tmp_path, script, changes, named
):
    places = {"good": good, "bad": bad, "out": tmp_path / "out"}
    outcome = run_script(script, places, **changes)
    assert (outcome.status, outcome.stdout) == (2, "")
    last_line = outcome.stderr.splitlines()[-1]
    assert "error: " in last_line
    assert named.format(**places) in last_line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("script", GOOD)
def test_every_script_explains_its_flags(scripts, script):
    outcome = call(scripts[script]["main"], ["--help"])
    assert outcome.status == 0
    assert all((name if name.isupper() else f"--{name}") in outcome.stdout for name in GOOD[script])


@pytest.mark.parametrize(("error", "status"), [(UserError, 2), (TrainingStopped, 1)])
def test_a_reason_of_several_lines_is_told_in_one(error, status):
    def main(arguments):
        raise error("first\n\tsecond")

    outcome = call(main, [])
    assert (outcome.status, outcome.stderr) == (status, "error: first \tsecond\n")


def test_an_error_of_the_program_itself_keeps_its_traceback():
    def main(arguments):
        raise OSError("a bug")

    with pytest.raises(OSError, match="a bug"):
        cli.exit_status(main, [])
