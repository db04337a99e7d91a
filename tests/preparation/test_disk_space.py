"""The disk that a preparation takes: about right, and refused before any work where it is not there."""

import collections
import json
import shutil

import numpy as np
import pytest

from algpt2.config.records import RecordOptions
from algpt2.errors import UserError
from algpt2.preparation.disk_space import needed_bytes
from algpt2.preparation.mixture import Input
from algpt2.preparation.plan import Command, make_plan
from algpt2.preparation.preparation import make_tfrecords
from algpt2.text.tokenizer import Tokenizer

OPTIONS = RecordOptions(seq_len=64, num_shards=2, val_fraction=0.0)
Usage = collections.namedtuple("Usage", "total used free")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Text that a tokenizer of 500 ids makes a token of about three bytes of."""
    folder = tmp_path_factory.mktemp("corpus")
    words = np.random.default_rng(0).choice(["alpha", "beta", "gamma", "delta", "epsilon", "zeta"], size=(2000, 40))
    texts = [" ".join(document) for document in words]
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    Tokenizer.train(texts[:50], 300).save(str(folder / "tokenizer"))
    return folder


def arguments(corpus):
    return [str(corpus / "a.jsonl")], str(corpus / "tokenizer")


def need_of(corpus):
    command = Command((Input((str(corpus / "a.jsonl"),)),), "0" * 64, OPTIONS)
    return needed_bytes(make_plan(command, 300))


def test_the_estimate_holds_for_text_of_three_bytes_a_token(corpus, tmp_path):
    inputs, tokenizer = arguments(corpus)
    result = make_tfrecords(inputs, tokenizer, str(tmp_path / "out"), OPTIONS)
    records = sum(file.stat().st_size for file in (tmp_path / "out").glob("*.tfrecord"))
    sorted_documents = 2 * (result["train"]["input_tokens"]) + 20 * 2000
    bytes_per_token = (corpus / "a.jsonl").stat().st_size / result["train"]["input_tokens"]
    assert need_of(corpus) == pytest.approx((records + sorted_documents) * bytes_per_token / 3, rel=0.15)


@pytest.mark.parametrize("fraction", [0.0, 0.49])
def test_a_disk_with_surely_too_little_room_is_refused_before_any_work(corpus, tmp_path, monkeypatch, fraction):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(0, 0, int(fraction * need_of(corpus))))
    with pytest.raises(UserError, match=r"take about 0\.00 GiB, and .*out has room for .*: free some, or name another"):
        make_tfrecords(*arguments(corpus), str(tmp_path / "out"), OPTIONS)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("fraction", "level"), [(0.6, "WARNING"), (1.1, "INFO")])
def test_a_disk_that_may_have_too_little_is_warned_of(corpus, tmp_path, monkeypatch, caplog, fraction, level):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(0, 0, int(fraction * need_of(corpus))))
    caplog.set_level("INFO", "absl")
    make_tfrecords(*arguments(corpus), str(tmp_path / "out"), OPTIONS)
    assert [one.levelname for one in caplog.records if "has room for" in one.message] == [level]
