"""The same preparation by Apache Beam. `make test-beam` runs it, in an environment without TensorFlow.

It has no use for the fixtures of tests/conftest.py, which need TensorFlow.
"""

import json
import sys

import pytest

from algpt2.config.records import RecordOptions
from algpt2.errors import UserError
from algpt2.preparation.beam import BeamJob
from algpt2.preparation.mixture import Input
from algpt2.preparation.preparation import make_tfrecords
from algpt2.text.tokenizer import Tokenizer

pytest.importorskip("apache_beam", reason="run by `make test-beam`, in an environment of its own")

DOCUMENTS = [f"number {n}: " + "the cat sat on the mat \u00e9 " * (n % 7) for n in range(400)] + ["", "same", "same"]
DOCUMENTS += [text.upper() for text in DOCUMENTS[:40]]  # They have the words of others.
OPTIONS = RecordOptions(seq_len=16, num_shards=3, val_fraction=0.2, seed=3)
IN_THIS_PROCESS = BeamJob("DirectRunner", ("direct_running_mode=in_memory",))
IN_PROCESSES = BeamJob("DirectRunner", ("direct_running_mode=multi_processing", "direct_num_workers=2"))


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with input files and a tokenizer, and the arguments of a preparation of them."""
    folder = tmp_path_factory.mktemp("beam")
    Tokenizer.train(DOCUMENTS, 300).save(str(folder / "tokenizer"))
    (folder / "text").mkdir()
    for part in range(4):
        lines = (json.dumps({"text": document}) + "\n" for document in DOCUMENTS[part::4])
        (folder / "text" / f"{part}.jsonl").write_text("".join(lines))
    return folder


def make(workplace, output, beam_job, inputs=None, **options):
    arguments = inputs or [str(workplace / "text")], str(workplace / "tokenizer"), str(output)
    make_tfrecords(*arguments, RecordOptions(**{**vars(OPTIONS), **options}), beam_job=beam_job)
    return {path.name: path.read_bytes() for path in output.iterdir()}


@pytest.mark.parametrize(
    ("beam_job", "options"),
    [
        (IN_THIS_PROCESS, {}),
        (IN_THIS_PROCESS, {"deduplicate": True}),
        (IN_THIS_PROCESS, {"deduplicate": True, "near_duplicates": 0.8}),
        (IN_THIS_PROCESS, {"packing": "best-fit"}),
        (IN_THIS_PROCESS, {"format": "documents"}),
        (IN_PROCESSES, {}),
    ],
    ids=["one process", "deduplicated", "near duplicates", "best fit", "documents", "two processes"],
)
def test_beam_writes_the_files_of_one_process(tmp_path, workplace, monkeypatch, beam_job, options):
    if "near_duplicates" in options:
        pytest.importorskip("rensa", reason="rensa is not installed")
    monkeypatch.setattr("algpt2.preparation.plan.LEAST_PIECE_BYTES", 4096)
    expected = make(workplace, tmp_path / "one", None, **options)
    assert make(workplace, tmp_path / "beam", beam_job, **options) == expected


@pytest.mark.parametrize("beam_job", [IN_THIS_PROCESS, IN_PROCESSES], ids=["one process", "two processes"])
def test_beam_takes_and_leaves_out_and_lists_what_one_process_does(tmp_path, workplace, monkeypatch, beam_job):
    """Catches a worker that gets the plan without the weights or without the files to compare with."""
    monkeypatch.setattr("algpt2.preparation.plan.LEAST_PIECE_BYTES", 4096)
    evaluation = workplace / "evaluation.txt"
    evaluation.write_text("the mat \u00e9 the cat sat on")
    monkeypatch.chdir(tmp_path)
    inputs = [Input((str(workplace / "text" / f"{part}.jsonl"),), weight) for part, weight in enumerate([2.5, 0.5], 1)]
    exclusion = {"exclude_ngrams": (str(evaluation),), "ngram_words": 6, "removed_documents": "removed.jsonl"}
    found = {}
    for name, job in (("one", None), ("beam", beam_job)):
        files = make(workplace, tmp_path / name, job, inputs, deduplicate=True, **exclusion)
        found[name] = files, (tmp_path / "removed.jsonl").read_bytes()
        (tmp_path / "removed.jsonl").unlink()
    assert found["beam"] == found["one"]
    reasons = {json.loads(line)["reason"] for line in found["one"][1].splitlines()}
    assert reasons == {"duplicate", "ngram", "weight"}


def test_a_users_mistake_in_beam_is_one_sentence(tmp_path, workplace):
    (tmp_path / "bad.jsonl").write_text('{"text": "good"}\n{"text": 3}\n')
    with pytest.raises(UserError, match="bad.jsonl"):
        make_tfrecords(
            [str(tmp_path / "bad.jsonl")],
            str(workplace / "tokenizer"),
            str(tmp_path / "out"),
            OPTIONS,
            beam_job=IN_THIS_PROCESS,
        )


@pytest.mark.parametrize(
    ("beam_job", "message"),
    [
        (BeamJob("NoRunner"), "beam_runner must be one of Beam's"),
        (BeamJob("DirectRunner", ("no_such_option=3",)), "beam_option must be .* received .*no_such_option"),
    ],
)
def test_a_runner_or_an_option_that_beam_lacks_is_refused(tmp_path, workplace, beam_job, message):
    with pytest.raises(UserError, match=message):
        make(workplace, tmp_path / "out", beam_job)


def test_a_preparation_by_beam_goes_on_where_one_process_was_stopped(tmp_path, workplace, monkeypatch):
    expected = make(workplace, tmp_path / "one", None)
    monkeypatch.setattr("algpt2.preparation.work.Work.write", stop)
    with pytest.raises(KeyboardInterrupt):
        make(workplace, tmp_path / "beam", None)
    monkeypatch.undo()
    monkeypatch.setattr("algpt2.preparation.encoding.PieceEncoder.encode", stop)
    assert make(workplace, tmp_path / "beam", IN_THIS_PROCESS) == expected


def stop(*_):
    """Stands in for a function during which a signal comes."""
    raise KeyboardInterrupt


def test_beam_needs_no_tensorflow():
    assert "tensorflow" not in sys.modules
