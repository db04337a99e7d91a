import json

import numpy as np
import pytest
from numpy_gpt import forward
from tiny_checkpoints import TOKENIZER_JSON, TRAIN_CONFIG
from tiny_models import ALGPT2_CONFIG, GPT2_CONFIG

from algpt2.checkpoints.folder import CheckpointState
from algpt2.checkpoints.huggingface_config import config_json
from algpt2.checkpoints.save_load import save_checkpoint, take_snapshot
from algpt2.model.gpt import GPT
from algpt2.optim.create import create_optimizer


def test_a_gpt2_checkpoint_loads_in_transformers_as_it_is(tmp_path, rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    model = GPT(GPT2_CONFIG)
    for parameter in model.named_parameters().values():
        parameter.assign(rng.normal(scale=0.3, size=parameter.shape))
    state = CheckpointState(1, 1, TRAIN_CONFIG.to_dict(), "abc", 1)
    snapshot = take_snapshot(model, create_optimizer(TRAIN_CONFIG, model))
    save_checkpoint(str(tmp_path), snapshot, state, TOKENIZER_JSON)

    theirs, report = transformers.GPT2LMHeadModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = rng.integers(64, size=(2, 16))
    with torch.no_grad():
        logits = theirs(torch.tensor(ids)).logits.numpy()
    assert np.abs(logits - model(ids.astype("int32")).numpy()).max() <= 1e-4


def test_the_published_config_says_what_our_config_says():
    fields = config_json(GPT2_CONFIG, eos_id=63)
    assert (fields["n_embd"], fields["n_positions"], fields["n_inner"]) == (32, 16, 128)
    assert (fields["model_type"], fields["architectures"], fields["eos_token_id"]) == ("gpt2", ["GPT2LMHeadModel"], 63)
    assert json.loads(json.dumps(fields))["algpt2"] == GPT2_CONFIG.to_dict()


def test_an_algpt2_checkpoint_does_not_claim_to_be_a_gpt2():
    fields = config_json(ALGPT2_CONFIG, eos_id=63)
    assert fields["model_type"] == "algpt2"
    assert "architectures" not in fields


def test_the_numpy_forward_pass_is_gpt2s(rng):
    """The independent model of our own tests is checked against transformers' where that is installed."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.GPT2Config(vocab_size=64, n_positions=16, n_embd=32, n_layer=2, n_head=2)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    parameters = {name: p.detach().numpy() for name, p in theirs.transformer.named_parameters()}
    ids = rng.integers(64, size=(2, 16))
    with torch.no_grad():
        logits = theirs(torch.tensor(ids)).logits.numpy()
    assert np.abs(forward(parameters, ids, 2, 2) - logits).max() <= 1e-4


def test_layer_norms_have_the_epsilon_of_gpt2s_published_config():
    """Its `config.json` says 1e-05; the number stands here, so that our constant is not compared with itself."""
    assert config_json(GPT2_CONFIG, eos_id=63)["layer_norm_epsilon"] == 1e-5
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    assert transformers.GPT2Config().layer_norm_epsilon == 1e-5
