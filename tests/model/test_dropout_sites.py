"""Every dropout of a forward pass draws a mask of its own: each has a site that no other has."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from tiny_models import ALGPT2_CONFIG, GPT2_CONFIG

from algpt2.model import dropout
from algpt2.model.gpt import GPT

N_LAYER = 3


@pytest.fixture
def sites(monkeypatch):
    """The sites for which masks are made, in order."""
    found, hashed_mask = [], dropout.HashedMask

    def recorded(rate, seed, site, shape):
        found.append(int(site))
        return hashed_mask(rate, seed, site, shape)

    monkeypatch.setattr(dropout, "HashedMask", recorded)
    return found


@pytest.mark.parametrize("remat", ["none", "block"])
@pytest.mark.parametrize("config", [GPT2_CONFIG, ALGPT2_CONFIG], ids=["gpt2", "algpt2"])
def test_all_dropouts_of_a_forward_pass_have_sites_of_their_own(sites, config, remat):
    """The embeddings' one, and attention weights, attention output and feed-forward output of each application."""
    model = GPT(dataclasses.replace(config, n_layer=N_LAYER, dropout=0.1))
    model.hidden_states(np.zeros((1, 16), "int32"), training=True, dropout_seed=tf.constant([1, 2]), remat=remat)
    assert len(sites) == 1 + 3 * N_LAYER
    assert len(set(sites)) == len(sites), sites


@pytest.mark.parametrize("remat", ["none", "block"])
@pytest.mark.parametrize("config", [GPT2_CONFIG, ALGPT2_CONFIG], ids=["gpt2", "algpt2"])
def test_the_backward_pass_of_a_block_takes_the_masks_of_its_forward_pass(sites, config, remat):
    """Rematerialised blocks make their masks again, each those of its own application, last application first."""
    model = GPT(dataclasses.replace(config, n_layer=N_LAYER, dropout=0.1))
    with tf.GradientTape() as tape:
        hidden = model.hidden_states(
            np.zeros((1, 16), "int32"), training=True, dropout_seed=tf.constant([1, 2]), remat=remat
        )
        loss = tf.reduce_sum(hidden)
    forward = list(sites)
    tape.gradient(loss, [parameter.value for parameter in model.named_parameters().values()])
    blocks = [forward[1 + 3 * i : 4 + 3 * i] for i in range(N_LAYER)]
    again = [site for block in reversed(blocks) for site in block] if remat == "block" else []
    assert sites[len(forward) :] == again
