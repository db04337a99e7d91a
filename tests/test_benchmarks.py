"""That what is timed does the same work."""

import json
import types

import numpy as np
import pytest
from places import REPOSITORY
from tiny_checkpoints import save_random
from tiny_models import GPT2_CONFIG

from algpt2.model.gpt import GPT
from algpt2.model.losses import inputs_and_targets, token_nats
from algpt2.text.tokenizer import Tokenizer

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(autouse=True)
def importable_benchmarks(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY))


def test_the_bare_chain_yields_the_records_that_the_pipeline_does(tmp_path):
    from benchmarks.input_streams import bare_batches, shuffled_batches, write_records

    record_set = write_records(str(tmp_path), n_shards=4, records_per_shard=8, seq_len=16)
    ours, bare = (
        sorted(record.tobytes() for _ in range(4) for record in next(stream).numpy())
        for stream in (shuffled_batches(record_set, 8), bare_batches(record_set, 8))
    )
    assert ours == bare
    assert len(set(ours)) == 32


def test_the_input_benchmark_prints_its_figures(capsys):
    from benchmarks import input as input_benchmark

    sizes = ["--records", "32", "--seq_len", "16", "--batch_size", "8", "--rounds", "2", "--rest_seconds", "0"]
    assert input_benchmark.main(sizes) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["tokens_per_second"] > 0
    assert figures["bare_tokens_per_second"] > 0
    assert figures["ratio_of_documents_to_packed"] > 0
    assert set(figures["cpu_nanoseconds_a_token"]) == {"packed", "documents", "bare"}


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


def made_row(key, search):
    figures = {"libtpu": "0", "peak_hbm_bytes": 2**30, "fits": True, "flops": 1e12}
    figures |= {"hbm_bytes_moved": 1e9, "on_chip_bytes_moved": 2e9, "roofline_seconds": 0.01, "mfu_at_roofline": 0.5}
    batch = {"largest_batch_per_core": 9 if search else None, "too_large_batch_per_core": 10 if search else None}
    return {**key._asdict(), **figures, **batch}


@pytest.fixture
def rehearse_presets(monkeypatch, tmp_path):
    """Calls the benchmark for gpt2 on a v3 core without a compiler; returns the rows, and what was made for them."""
    from benchmarks import rehearsal

    rows = tmp_path / "rows.json"
    arguments = ["--presets", "gpt2", "--kinds", "v3", "--rows", str(rows), "--output", str(tmp_path / "table.md")]

    def rehearse_presets(*flags):
        made = []
        monkeypatch.setattr(rehearsal, "make_row", lambda key, search: made.append(key) or made_row(key, search))
        assert rehearsal.main([*arguments, *flags]) == 0
        return json.loads(rows.read_text())["rows"], made

    return rehearse_presets


def test_rehearsals_made_before_are_kept_unless_a_largest_batch_is_wanted_that_they_lack(rehearse_presets, tmp_path):
    for flags, n_made in (["--no-search"], 2), (["--no-search"], 0), (["--optimizers", "adamw"], 1), ([], 1), ([], 0):
        rows, made = rehearse_presets(*flags)
        assert len(made) == n_made
    assert [row["largest_batch_per_core"] for row in rows] == [9, 9]
    assert (tmp_path / "table.md").read_text().count("| gpt2 |") == 2


def test_a_rehearsal_that_lacks_a_figure_is_made_anew_and_keeps_the_largest_batch_that_was_searched_for(
    rehearse_presets, tmp_path
):
    old, _ = rehearse_presets("--optimizers", "adamw")
    del old[0]["hbm_bytes_moved"]
    old[0] |= {"bytes_accessed": 5e9, "largest_batch_per_core": 81, "too_large_batch_per_core": None}
    (tmp_path / "rows.json").write_text(json.dumps({"rows": old}))
    (row,), made = rehearse_presets("--optimizers", "adamw")
    assert len(made) == 1
    assert (row["largest_batch_per_core"], row["too_large_batch_per_core"]) == (81, None)
    assert row["hbm_bytes_moved"] == 1e9
    assert "bytes_accessed" not in row


def test_the_published_table_is_that_of_the_published_rows():
    from benchmarks.rehearsal_table import document

    rows = json.loads((REPOSITORY / "docs/rehearsal.json").read_text())["rows"]
    assert (REPOSITORY / "docs/rehearsal.md").read_text() == document(rows)


def test_a_rehearsed_recipe_is_added_to_those_in_the_file(monkeypatch, tmp_path):
    from benchmarks import recipes

    def rehearse(model_config, train_config, pod_name, search):
        assert (model_config.vocab_size, train_config.compute_dtype, search) == (50257, "bfloat16", False)
        row = dict.fromkeys([*recipes.FIGURES, *recipes.SPEED], 1.0) | {"pod": pod_name}
        return types.SimpleNamespace(figures=lambda: row | {"estimates": {}})

    monkeypatch.setattr(recipes, "rehearse", rehearse)
    output = tmp_path / "rows.json"
    for name in ("algpt2-2020", "gpt2-finetune-wikitext"):
        assert recipes.main(["--recipes", name, "--output", str(output)]) == 0
    rows = json.loads(output.read_text())
    assert [rows[name]["pod"] for name in ("algpt2-2020", "gpt2-finetune-wikitext")] == ["v3-128", "v3-8"]
    assert [row["hours_at_roofline"] for row in rows.values()] == [1.0, None]
    assert "estimates" not in rows["algpt2-2020"]


def test_both_ways_to_score_give_the_same_nats_to_the_targets_that_both_score(tmp_path, rng):
    """Windows of the documented loop are one target shorter, so ours are made so here."""
    pytest.importorskip("transformers", reason="the documented loop runs on transformers")
    from benchmarks.scoring_contenders import CONTENDERS, Text

    _, folder = save_random(tmp_path, 0, GPT2_CONFIG)
    ids = rng.integers(GPT2_CONFIG.vocab_size, size=17).astype("int32")
    assert CONTENDERS["ours"](Text(folder, ids[:16], 16, 2))(1) == pytest.approx(
        CONTENDERS["documented_loop"](Text(folder, ids[:16], 16, 2))(1), rel=1e-4
    )
    text = Text(folder, rng.integers(GPT2_CONFIG.vocab_size, size=40).astype("int32"), 8, 2)
    assert CONTENDERS["ours"](text)(4) == pytest.approx(CONTENDERS["documented_loop"](text)(4), rel=0.05)


def test_the_preparation_benchmark_prints_its_ratios(records_folder, tmp_path, capsys):
    pytest.importorskip("gigatoken", reason="gigatoken is not installed")
    from benchmarks import preparation

    lines = [json.dumps({"text": f"alpha beta {number} " * 9}) + "\n" for number in range(300)]
    (tmp_path / "a.jsonl").write_text("".join(lines))
    flags = ["--input", str(tmp_path / "a.jsonl"), "--tokenizer", records_folder, "--seq_len", "16", "--rounds", "1"]
    assert preparation.main([*flags, "--no_datasets"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert set(figures["seconds"]) == {"ours", "ours_with_gigatoken", "bare_encoder"}
    ratio = figures["seconds"]["bare_encoder"] / figures["seconds"]["ours"]
    assert figures["ours_as_fast_as_bare_encoder"] == pytest.approx(ratio)


def test_the_memory_benchmark_prints_what_a_preparation_takes(tmp_path, capsys):
    from benchmarks import memory

    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"text": f"the cat sat on mat {n}"}) + "\n" for n in range(50))
    )
    Tokenizer.train(["the cat sat on the mat"], 270).save(str(tmp_path / "tokenizer"))
    flags = ["--input", str(tmp_path / "a.jsonl"), "--tokenizer", str(tmp_path / "tokenizer"), "--num_workers", "1"]
    assert memory.main([*flags, "--megabytes", "1"]) == 0
    found = json.loads(capsys.readouterr().out)["make_tfrecords"]
    assert found["ratio"] == 1
    # No upper bound: a process that a large one starts counts what that one held.
    assert found["megabytes"]["1"] > 20
