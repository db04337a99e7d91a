"""The command from end to end: which way a folder goes, what comes out, and what is refused."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from command_line import EVALUATE, GENERATE, TRAIN, call, snapshot
from interchange import GPT2, read_json, save_randomised, write_huggingface_gpt2
from safetensors import numpy as safetensors

from algpt2 import storage
from algpt2.checkpoints.folder import find_checkpoint
from algpt2.errors import UserError
from algpt2.interchange.convert import convert
from algpt2.interchange.ways_out import WAYS_OUT

SCORES = [("hf", 1.5), ("raw", 2.5)]
CONVERT = "data_tools/convert_checkpoint.py"


@pytest.fixture
def run_convert(scripts):
    """Calls the script."""
    return lambda *arguments: call(scripts[CONVERT]["main"], [str(argument) for argument in arguments])


def test_a_run_goes_out_and_comes_back_evaluates_generates_and_begins_another_run(
    good, run_convert, run_script, tmp_path
):
    places, theirs, ours = {"good": good}, tmp_path / "theirs", tmp_path / "ours"
    out = run_convert("--input", good / "gpt2", "--output", theirs, "--to", "huggingface").result
    assert (out["input"], out["output"]) == (str(good / "gpt2" / "checkpoints" / "step_00000030"), str(theirs))
    back = run_convert("--input", theirs, "--output", ours).result
    assert (back["from"], back["parameters"]) == ("huggingface", out["parameters"])
    scores = run_script(EVALUATE, places, checkpoint=str(ours), protocol="raw").result
    assert scores["bits_per_byte"] == read_json(good, "gpt2.evaluation.json")["bits_per_byte"]
    assert run_script(GENERATE, places, checkpoint=str(ours)).result["checkpoint"] == str(ours)
    changes = {"config_path": "{good}/gpt2.json", "initialize_from": str(ours), "steps": 1, "save_every_steps": 1}
    outcome = run_script(TRAIN, {**places, "out": tmp_path / "run"}, **changes)
    assert outcome.result["step"] == 1


def test_an_algpt2_leaves_and_its_card_says_what_is_known_of_it(good, run_convert, tmp_path):
    evaluation = good / "algpt2.evaluation.json"
    arguments = ("--input", good / "algpt2", "--to", "huggingface", "--evaluation", evaluation)
    outcome = run_convert(*arguments, "--output", tmp_path / "theirs")
    assert outcome.status == 0, outcome.stderr
    card = (tmp_path / "theirs" / "README.md").read_text()
    record = read_json(good, "algpt2", "run.json")
    result = json.loads(evaluation.read_text())
    for name, value in {
        **{"step": 30, "tokens": 30 * 4 * 16, "train_fingerprint": record["train_fingerprint"], "embedding_size": 8},
        **{"train_config.learning_rate": 0.01, "train_config.batch_size": 4, "protocol": "raw", "stride": 16},
        **{"bits_per_byte": result["bits_per_byte"], "description": result["description"]},
        **{"parameters": outcome.result["parameters"], "written_parameters": outcome.result["written_parameters"]},
    }.items():
        assert f"| {name} | {value} |" in card


def test_a_card_has_every_protocol_of_an_evaluation_of_several(tmp_path):
    save_randomised(tmp_path / "ours")
    results = [{"checkpoint": str(tmp_path / "ours"), "protocol": name, "bits": bits} for name, bits in SCORES]
    (tmp_path / "matrix.json").write_text(json.dumps(results))
    by_protocol = {"checkpoint": str(tmp_path / "ours"), "protocols": {"other": {"accuracy": 0.25}}}
    (tmp_path / "choices.json").write_text(json.dumps(by_protocol))
    files = [str(tmp_path / name) for name in ("matrix.json", "choices.json")]
    convert(str(tmp_path / "ours"), str(tmp_path / "theirs"), "huggingface", files)
    tables = (tmp_path / "theirs" / "README.md").read_text().split("## Evaluation")[1].strip().split("\n\n")
    assert [table.splitlines()[0] for table in tables] == ["| of matrix.json | value |"] * 2 + [
        "| of choices.json | value |"
    ]
    for (name, bits), table in zip(SCORES, tables, strict=False):
        assert f"| protocol | {name} |" in table
        assert f"| bits | {bits} |" in table
    assert "| protocols.other.accuracy | 0.25 |" in tables[2]


def test_the_card_is_one_that_the_hub_reads(good, tmp_path):
    hub = pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    convert(str(good / "algpt2"), str(tmp_path / "theirs"), "huggingface")
    card = hub.ModelCard.load(tmp_path / "theirs" / "README.md", ignore_metadata_errors=False)
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "text-generation")
    assert card.data.tags == ["gpt2", "algpt2"]


def test_a_card_names_what_was_done_to_the_run_before_the_checkpoint_and_not_after(good, tmp_path):
    run = Path(shutil.copytree(good / "algpt2", tmp_path / "run"))
    record = read_json(run, "run.json")
    record["history"] = [
        {"step": 20, "changes": {"log_every_steps": [5, 6]}},
        {"step": 31, "changes": {"later": [1, 2]}},
    ]
    record["initial_weights"] = "runs/before"
    (run / "run.json").write_text(json.dumps(record))
    convert(str(run), str(tmp_path / "theirs"), "huggingface")
    card = (tmp_path / "theirs" / "README.md").read_text()
    assert "began with the weights of `runs/before`" in card
    assert '- `{"step": 20, "changes": {"log_every_steps": [5, 6]}}`' in card
    assert "later" not in card


def test_a_mean_and_an_imported_model_say_what_they_were_made_of(tmp_path):
    from algpt2.checkpoints.averaging import average_checkpoints

    write_huggingface_gpt2(tmp_path / "theirs")
    convert(str(tmp_path / "theirs"), str(tmp_path / "imported"))
    average_checkpoints([str(tmp_path / "imported")] * 2, str(tmp_path / "mean"))
    for name, said in {"imported": "imported.folder", "mean": "averaged.1.checkpoint"}.items():
        convert(str(tmp_path / name), str(tmp_path / f"{name} out"), "huggingface")
        origin = tmp_path / ("theirs" if name == "imported" else "imported")
        assert f"| {said} | {origin} |" in (tmp_path / f"{name} out" / "README.md").read_text()


def test_both_ways_go_from_and_to_cloud_storage(bucket, tmp_path):
    place = f"{bucket}/{tmp_path.name}"
    save_randomised(f"{place}/ours")
    convert(f"{place}/ours", f"{place}/theirs", "huggingface")
    convert(f"{place}/theirs", f"{place}/back")
    assert find_checkpoint(f"{place}/back").read_bytes("model.safetensors") == storage.read_bytes(
        f"{place}/ours/model.safetensors"
    )
    assert storage.exists(f"{place}/theirs/README.md")


@pytest.fixture
def places(good, tmp_path):
    """Folders to name on a command line, by their names in the cases below."""
    save_randomised(tmp_path / "ours")
    write_huggingface_gpt2(tmp_path / "theirs" / "gpt2")
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "mine.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "nothing.json").write_text("{}")
    (tmp_path / "average.json").write_text(json.dumps({"checkpoint": str(tmp_path / "ours"), "ema": True}))
    (tmp_path / "other.json").write_text((good / "algpt2.evaluation.json").read_text())
    shutil.copytree(tmp_path / "ours", tmp_path / "damaged")
    safetensors.save_file({}, tmp_path / "damaged" / "model.safetensors")
    return tmp_path


FORMS = " or ".join(WAYS_OUT)
REFUSED = [
    ("--input {0}/ours --output {0}/out", f"--to must say the form of a checkpoint's output, {FORMS}"),
    ("--input {0}/theirs/gpt2 --output {0}/out --to huggingface", "--to is for a checkpoint of ours"),
    (
        "--input {0}/theirs/gpt2 --output {0}/out --evaluation {0}/other.json",
        "--evaluation is for a checkpoint of ours",
    ),
    ("--input {0}/empty --output {0}/out", "--input must be a checkpoint, a --model_dir or a folder of Hugging Face's"),
    ("--input {0}/none --output {0}/out --to huggingface", "--input must be a checkpoint", "{0}/none"),
    ("--input {0}/damaged --output {0}/out --to huggingface", "model.safetensors has another SHA-256"),
    ("--input {0}/ours --output {0}/occupied --to huggingface", "must be new or empty", "{0}/occupied"),
    ("--input {0}/theirs/gpt2 --output {0}/occupied", "must be new or empty", "{0}/occupied"),
    ("--input {0}/ours --output {0}/list.json/out --to huggingface", "{0}/list.json is not a folder"),
    ("--input {0}/ours --output {0}/out --to huggingface --evaluation {0}/none.json", "{0}/none.json"),
    (
        "--input {0}/ours --output {0}/out --to huggingface --evaluation {0}/list.json",
        "it has 1 in the place of an object",
    ),
    ("--input {0}/ours --output {0}/out --to huggingface --evaluation {0}/nothing.json", "of which checkpoint it is"),
    (
        "--input {0}/ours --output {0}/out --to huggingface --evaluation {0}/other.json",
        "of the checkpoint that is conv",
    ),
    (
        "--input {0}/ours --output {0}/out --to huggingface --evaluation {0}/average.json",
        "of the weights that are converted, which are the last ones",
    ),
    ("--input {0}/ours --output {0}/out --to onnx", "invalid choice: 'onnx'"),
]


@pytest.mark.parametrize(("arguments", "parts"), [(one, parts) for one, *parts in REFUSED])
def test_a_wrong_command_line_is_a_sentence_and_nothing_is_written(run_convert, places, arguments, parts):
    before = snapshot(places)
    outcome = run_convert(*arguments.format(places).split())
    assert outcome.status == 2
    for part in parts:
        assert part.format(places) in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert snapshot(places) == before


def test_nothing_stays_of_a_form_that_fails(tmp_path, monkeypatch):
    save_randomised(tmp_path / "ours")

    def failing(checkpoint, folder):
        (Path(folder) / "config.json").write_text("{}")
        raise UserError("there is no such form.")

    monkeypatch.setitem(WAYS_OUT, "huggingface", WAYS_OUT["huggingface"]._replace(write=failing))
    with pytest.raises(UserError, match="no such form"):
        convert(str(tmp_path / "ours"), str(tmp_path / "out"), "huggingface")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("to", "field"),
    [("huggingface", {"position_encoding": "alibi"}), ("keras_hub", {"document_eos_id": 269})],
)
def test_a_model_that_attends_differently_is_no_gpt2_of_others_and_does_not_say_so(tmp_path, to, field):
    save_randomised(tmp_path / "ours", dataclasses.replace(GPT2, n_layer=1, **field))
    assert read_json(tmp_path, "ours", "config.json")["model_type"] == "algpt2"
    with pytest.raises(UserError, match=f"has GPT-2's own {list(field)[0]}, .*: use --to saved_model or --to litert"):
        convert(str(tmp_path / "ours"), str(tmp_path / "theirs"), to)
