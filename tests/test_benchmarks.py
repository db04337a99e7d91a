"""That what is timed does the same work."""

import json

import numpy as np
import pytest
from conftest import REPOSITORY

from algpt2.losses import inputs_and_targets, token_nats
from algpt2.model import GPT

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def importable_benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY))


def test_the_bare_chain_yields_the_records_that_the_pipeline_does(tmp_path):
    from benchmarks import input as input_benchmark

    record_set = input_benchmark._write(str(tmp_path), 8, seq_len=16)
    ours, bare = (
        sorted(record.tobytes() for _ in range(4) for record in next(stream).numpy())
        for stream in (input_benchmark._ours(record_set, 8), input_benchmark._bare_chain(record_set, 8))
    )
    assert ours == bare
    assert len(set(ours)) == 32


def test_the_input_benchmark_prints_its_figures(capsys):
    from benchmarks import input as input_benchmark

    assert input_benchmark.main(["--records", "32", "--seq_len", "16", "--batch_size", "8", "--rounds", "2"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["tokens_per_second"] > 0
    assert figures["bare_tokens_per_second"] > 0


def test_the_pytorch_model_has_our_loss_with_our_parameters(tiny_config, rng):
    torch = pytest.importorskip("torch", reason="needs the bench extra")
    from benchmarks.torch_gpt import TorchGPT

    model, other = GPT(tiny_config), TorchGPT(tiny_config)
    parameters = {name: parameter.numpy() for name, parameter in model.named_parameters().items()}
    renamed = {"mlp.c_fc": "c_fc", "mlp.c_proj": "c_proj"}
    renamed |= {"embedding_projection": "to_stream", "head_projection": "to_table"}
    state = {}
    for name, value in parameters.items():
        is_kernel = value.ndim == 2 and name not in ("wte.weight", "wpe.weight")
        for ours, theirs in renamed.items():
            name = name.replace(ours, theirs)
        state[name] = torch.from_numpy((value.T if is_kernel else value).copy())
    other.load_state_dict(state)
    inputs, targets = inputs_and_targets(rng.integers(tiny_config.vocab_size, size=(2, 17)).astype("int32"))
    loss = other(*(torch.from_numpy(ids.astype(np.int64)) for ids in (inputs, targets)))
    assert float(loss.detach()) == pytest.approx(float(np.mean(token_nats(model(inputs), targets))), rel=1e-5)
