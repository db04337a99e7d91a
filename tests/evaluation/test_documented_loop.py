"""Hugging Face's documented loop: our shares of windows beside the loop itself, written out in plain Python."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import GPT2_CONFIG, randomised

from algpt2.evaluation.documented_loop import loop_shares
from algpt2.evaluation.windows import windows


def documented_loop(n_ids, max_length, stride, mean_loss):
    """The sum and the count of the page "Perplexity of fixed-length models" of transformers 5.

    mean_loss: from where a window begins and ends, and the number of its first ids that are masked out, to the model's
    loss, which is a mean over labels that are shifted by one within the window.
    """
    nll_sum, n_tokens, previous_end = 0.0, 0, 0
    for begin in range(0, n_ids, stride):
        end = min(begin + max_length, n_ids)
        n_new = end - previous_end
        valid = min(n_new, end - begin)
        if valid > 1:  # the loop itself multiplies the mean of nothing, NaN, by 0 where windows do not overlap
            nll_sum += mean_loss(begin, end, end - begin - valid) * (valid - 1)
            n_tokens += valid - 1
        previous_end = end
        if end == n_ids:
            break
    return nll_sum, n_tokens


def nats_of_place(start, target):
    """Made-up nats of the target at an index in the text, in the window that begins at `start`: no two are alike."""
    return math.sqrt(1 + target) + 0.37 * math.sin(1 + start)


@given(n_ids=st.integers(2, 70), seq_len=st.integers(2, 20), stride=st.data())
def test_the_shares_of_our_windows_add_up_to_the_loops_sum_and_count(n_ids, seq_len, stride):
    stride = stride.draw(st.integers(1, seq_len))

    def mean_loss(begin, end, masked):
        return np.mean([nats_of_place(begin, target) for target in range(begin + max(masked, 1), end)])

    found, shares = list(windows(np.arange(n_ids), seq_len, stride)), list(loop_shares(n_ids, seq_len, stride))
    assert len(found) == len(shares)
    nats = [[nats_of_place(i * stride, i * stride + t + 1) for t in range(seq_len)] for i in range(len(found))]
    sums = [share.nats_of(np.array(row)) for share, row in zip(shares, nats, strict=True)]
    total, count = documented_loop(n_ids, seq_len, stride, mean_loss)
    assert sum(share.weight for share in shares) == count
    assert sum(sums) == pytest.approx(total, rel=1e-12)


def test_the_loop_counts_one_id_fewer_for_each_window():
    """44,474 ids are 43 whole windows and one that is shorter: 44,473 are scored by us, 44,430 by the loop."""
    assert sum(share.weight for share in loop_shares(44_474, 1024, 1024)) == 44_474 - 44 == 44_430


# A rest of a window, a single id left over, and windows that overlap.
@pytest.mark.parametrize(("n_ids", "stride"), [(50, 16), (33, 16), (49, 5)])
def test_our_figure_is_that_of_the_loop_run_in_pytorch(n_ids, stride, rng):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    from algpt2.evaluation.scorer import Scorer

    ours = randomised(GPT2_CONFIG)
    theirs = huggingface_twin(transformers, torch, ours)
    ids = rng.integers(GPT2_CONFIG.vocab_size, size=n_ids)

    def mean_loss(begin, end, masked):
        inputs = torch.tensor(ids[None, begin:end])
        labels = inputs.clone()
        labels[:, :masked] = -100
        with torch.no_grad():
            return float(theirs(inputs, labels=labels).loss)

    scored = [window_of_all_targets(window) for window in windows(ids, 16, stride)]
    nats = Scorer(ours, batch_size=2, jit_compile=False).target_nats(scored)
    shares = loop_shares(n_ids, 16, stride)
    found = sum(share.nats_of(row) for share, row in zip(shares, nats, strict=True))
    assert found == pytest.approx(documented_loop(n_ids, 16, stride, mean_loss)[0], rel=1e-5)


def window_of_all_targets(window):
    return type(window)(window.inputs, window.targets, np.ones_like(window.scored))


def huggingface_twin(transformers, torch, model):
    """Returns transformers' GPT-2 with the parameters of ours."""
    config = model.config
    sizes = {
        "n_positions": config.seq_len,
        "n_embd": config.d_model,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
    }
    twin = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=config.vocab_size, **sizes))
    parameters = {name: torch.tensor(np.array(value)) for name, value in model.named_parameters().items()}
    twin.transformer.load_state_dict(parameters)
    return twin.eval()
