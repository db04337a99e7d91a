"""Checkpoints as presets of keras-hub: what its GPT-2 computes of them is what our model computes."""

import dataclasses
import sys

import numpy as np
import pytest
from interchange import ALGPT2, GPT2, TEXT, random_ids, save_randomised, tiny_tokenizer

from algpt2.errors import UserError
from algpt2.interchange.convert import convert

# keras-hub's reader of GPT-2 knows this width of the feed-forward part only.
WIDE = dataclasses.replace(GPT2, d_ff=None)
SHARED = dataclasses.replace(ALGPT2, d_ff=None, embedding_size=None)


@pytest.fixture(scope="module")
def keras_hub():
    return pytest.importorskip("keras_hub", reason="keras-hub is not installed")


@pytest.mark.parametrize("config", [WIDE, SHARED], ids=["gpt2", "shared"])
def test_keras_hub_computes_the_same_logits_and_has_the_same_tokenizer(config, keras_hub, tmp_path):
    model = save_randomised(tmp_path / "ours", config)
    facts = convert(str(tmp_path / "ours"), str(tmp_path / "preset"), "keras_hub")
    theirs = keras_hub.models.CausalLM.from_preset(str(tmp_path / "preset"))
    assert (type(theirs), theirs.count_params()) == (keras_hub.models.GPT2CausalLM, facts["written_parameters"])
    for length in (1, 5, config.seq_len):
        ids = random_ids(config, batch=3, length=length)
        logits = theirs({"token_ids": ids, "padding_mask": np.ones_like(ids)})
        assert np.abs(logits - model(ids)).max() <= 1e-4
    assert theirs.preprocessor.sequence_length == config.seq_len
    assert list(theirs.preprocessor.tokenizer(TEXT)) == tiny_tokenizer().encode(TEXT)
    backbone = keras_hub.models.GPT2Backbone.from_preset(str(tmp_path / "preset"))
    assert backbone.max_sequence_length == config.seq_len


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (dataclasses.replace(WIDE, embedding_size=6), "head of a keras-hub GPT-2 is its token table"),
        (dataclasses.replace(GPT2, d_ff=20), "whose d_ff is 4 x d_model, received d_ff=20 and d_model=18"),
    ],
)
def test_a_model_that_keras_hub_lacks_is_refused(config, reason, tmp_path):
    save_randomised(tmp_path / "ours", config)
    with pytest.raises(UserError, match=reason):
        convert(str(tmp_path / "ours"), str(tmp_path / "preset"), "keras_hub")
    assert not (tmp_path / "preset").exists()


def test_without_keras_hub_it_says_how_to_install_it(tmp_path, monkeypatch):
    save_randomised(tmp_path / "ours", WIDE)
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(UserError, match="needs the package keras-hub.*pip install"):
        convert(str(tmp_path / "ours"), str(tmp_path / "preset"), "keras_hub")
