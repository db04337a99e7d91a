"""Pure parts without a compiler; the compiler's own parts where the extra `rehearsal` is installed."""

import dataclasses
import json
import re
from concurrent.futures.process import BrokenProcessPool

import pytest
from command_line import TRAIN, call
from marks import needs_tpu_compiler
from tiny_models import ALGPT2_CONFIG, GPT2_CONFIG

from algpt2.config.model import GPTConfig
from algpt2.config.training import SHARDED_OPTIMIZERS, TrainConfig
from algpt2.devices.chips import GIB
from algpt2.devices.tpu_pods import pod_named
from algpt2.errors import UserError
from algpt2.model.sizes import training_flops_per_token
from algpt2.preflight import rehearsal, tpu_compiler
from algpt2.preflight.memory_estimate import optimizer_state_bytes
from algpt2.preflight.rehearsal import config_of_one_replica, rehearse, table_of
from algpt2.preflight.step_export import export_training_step
from algpt2.preflight.tpu_compiler import Compiled, compile_for_tpu

CONFIG = TrainConfig(total_steps=10, batch_size=2, compute_dtype="bfloat16", jit_compile=False)


def test_a_replica_runs_its_share_of_the_batch_and_keeps_the_tokens_of_the_run():
    config = TrainConfig(total_steps=10, batch_size=64, accumulation_steps=2, warmup_tokens=5e4, decay="constant")
    own = config_of_one_replica(config, pod_named("v3-8"), 3)
    assert (own.batch_size, own.accumulation_steps, own.jit_compile) == (6, 2, False)
    assert own.total_steps * own.batch_size >= 640
    own.warmup_updates(6 * 128)  # the warm-up of 50,000 of its 81,920 tokens still fits


def fake_compiler(monkeypatch, compiled):
    monkeypatch.setattr(tpu_compiler, "require_compiler", lambda: None)
    monkeypatch.setattr(tpu_compiler, "compiler_version", lambda: "0")
    monkeypatch.setattr(rehearsal, "in_own_process", lambda export, model, config, n_replicas: config.batch_size)
    monkeypatch.setattr(tpu_compiler, "compile_for_tpu", lambda program, kind: compiled(program))


def test_the_figures_of_a_run_follow_from_those_of_a_core(monkeypatch):
    fake_compiler(monkeypatch, lambda batch: Compiled(round(1.7 * batch * GIB), batch <= 9, GIB, 61.5e12, 90e9, 70e9))
    config = TrainConfig(total_steps=1000, batch_size=512, compute_dtype="bfloat16")
    found = rehearse(GPTConfig.from_preset("gpt2"), config, "v3-128")
    figures = found.figures()
    assert (found.batch_per_core, found.largest_batch_per_core, found.too_large_batch_per_core) == (4, 9, 10)
    reduction = 2 * 63 / 64 * 4 * 124_439_808 / 328e9
    assert (figures["hbm_bytes_moved"], figures["on_chip_bytes_moved"]) == (90e9, 70e9)
    assert figures["memory_seconds"] == pytest.approx(90e9 / 450e9)  # what stays on the chip takes none of it
    assert figures["roofline_seconds"] == pytest.approx(1 + reduction)
    assert figures["tokens_per_second_at_roofline"] == pytest.approx(512 * 1024 / (1 + reduction))
    assert figures["hours_at_roofline"] == pytest.approx(1000 * (1 + reduction) / 3600)
    model_flops = 4 * 1024 * training_flops_per_token(GPTConfig.from_preset("gpt2"))
    assert figures["mfu_at_roofline"] == pytest.approx(model_flops / 61.5e12 / (1 + reduction))
    table = dict(table_of(found))
    assert table["largest batch of a core"] == "9 (10 does not fit)"
    assert table["memory traffic"].startswith("at least 90.00 GB")
    assert "may pass 100%" in table["MFU at the roofline"]
    assert set(figures["estimates"]) <= set(figures)


def test_state_that_is_shared_out_is_counted_once_a_pod_and_exchanged_like_the_gradients(monkeypatch):
    fake_compiler(monkeypatch, lambda batch: Compiled(GIB, True, GIB, 61.5e12, 90e9, 70e9))
    config = TrainConfig(total_steps=1, batch_size=512, compute_dtype="bfloat16")
    model = GPTConfig.from_preset("alibi-580m")
    whole, part = (
        rehearse(model, dataclasses.replace(config, shard_optimizer_state=is_sharded), "v3-32", search=False)
        for is_sharded in (False, True)
    )
    assert whole.optimizer_state_bytes == 8 * model.parameter_count()
    assert part.optimizer_state_bytes == pytest.approx(whole.optimizer_state_bytes / 32, rel=1e-6)
    assert part.all_reduce_seconds == 2 * whole.all_reduce_seconds


def test_a_step_that_does_not_fit_has_no_speed_and_exit_status_2(monkeypatch, capsys):
    fake_compiler(monkeypatch, lambda batch: Compiled(20 * GIB, fits=False))
    found = rehearse(GPTConfig.from_preset("gpt2"), TrainConfig(total_steps=1, batch_size=512), "v3-128", search=False)
    assert rehearsal.report(found) == 2
    printed = capsys.readouterr()
    assert "20.00 of 16 GiB: DOES NOT FIT" in printed.err
    assert (json.loads(printed.out)["fits"], json.loads(printed.out)["hours_at_roofline"]) == (False, None)


def test_the_script_rehearses_in_bfloat16_without_a_folder(monkeypatch, scripts, records_folder, tmp_path):
    fake_compiler(monkeypatch, lambda batch: Compiled(4 * GIB * batch, batch < 4, GIB, 1e12, 1e9, 1e9))
    (tmp_path / "tiny.json").write_text(json.dumps({**GPT2_CONFIG.to_dict(), "vocab_size": 300}))
    flags = ["--train_path", records_folder, "--config_path", str(tmp_path / "tiny.json"), "--batch_size", "8"]
    result = call(scripts[TRAIN]["main"], [*flags, "--rehearse", "v3-8"]).result
    assert (result["pod"], result["compute_dtype"], result["largest_batch_per_core"]) == ("v3-8", "bfloat16", 3)
    outcome = call(scripts[TRAIN]["main"], [*flags, "--rehearse", "v3-32"])
    assert (outcome.status, "multiple of replicas" in outcome.sentence) == (2, True)


def test_the_script_rehearses_before_there_are_records(monkeypatch, scripts):
    fake_compiler(monkeypatch, lambda batch: Compiled(4 * GIB * batch, batch < 4, GIB, 1e12, 1e9, 1e9))
    flags = ["--config_path", "gpt2", "--batch_size", "128", "--rehearse", "v3-128"]
    result = call(scripts[TRAIN]["main"], [*flags, "--steps", "3600"]).result
    assert result["hours_at_roofline"] == pytest.approx(result["roofline_seconds"])
    outcome = call(scripts[TRAIN]["main"], flags)
    assert (outcome.status, "--rehearse needs --steps, or --train_path" in outcome.sentence) == (2, True)
    outcome = call(scripts[TRAIN]["main"], [*flags, "--steps", "10", "--warmup_tokens", "1e9"])
    assert (outcome.status, "warmup" in outcome.sentence) == (2, True)


def test_an_export_that_the_system_ends_is_a_sentence(monkeypatch):
    def ended(*_):
        raise BrokenProcessPool

    fake_compiler(monkeypatch, lambda batch: None)
    monkeypatch.setattr(rehearsal, "in_own_process", ended)
    with pytest.raises(UserError, match="was ended, as the system does where memory is short"):
        rehearse(GPT2_CONFIG, dataclasses.replace(CONFIG, batch_size=8), "v3-8")


def test_without_the_compiler_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(tpu_compiler.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=re.escape("jax and libtpu, which is not installed: run `pip install")):
        rehearse(GPT2_CONFIG, CONFIG, "v3-8")
    monkeypatch.setattr(tpu_compiler.util, "find_spec", lambda name: name)
    monkeypatch.setattr(tpu_compiler.metadata, "version", lambda name: "0.6.2")
    with pytest.raises(UserError, match="needs jax 0.10 or newer.*found jax 0.6.2"):
        rehearse(GPT2_CONFIG, CONFIG, "v3-8")


@needs_tpu_compiler
def test_a_step_compiles_for_a_v3_core_and_accumulation_counts_every_micro_batch():
    """A loop over two micro-batches: its FLOPs are those of all the tokens, not of half of them."""
    config = dataclasses.replace(CONFIG, batch_size=8, accumulation_steps=2)
    model_config = dataclasses.replace(ALGPT2_CONFIG, vocab_size=256, d_model=64)
    compiled = compile_for_tpu(export_training_step(model_config, config), "v3")
    assert compiled.fits
    assert compiled.uncounted_loops == 0
    state_bytes = 3 * 4 * model_config.parameter_count()
    assert state_bytes < compiled.argument_bytes < compiled.peak_hbm_bytes < 100 * state_bytes
    model_flops = 8 * model_config.seq_len * training_flops_per_token(model_config)
    assert 0.8 * model_flops < compiled.flops < 1.6 * model_flops


@needs_tpu_compiler
@pytest.mark.parametrize("optimizer", SHARDED_OPTIMIZERS)
def test_a_step_with_a_part_of_the_state_keeps_less_between_steps(optimizer):
    """And has room of its own for the parameters that the replicas exchange, which no compiler may leave out."""
    model_config = dataclasses.replace(ALGPT2_CONFIG, vocab_size=256, d_model=64)
    config = dataclasses.replace(CONFIG, optimizer=optimizer)
    whole = compile_for_tpu(export_training_step(model_config, config), "v3")
    shared_out = dataclasses.replace(config, shard_optimizer_state=True)
    part = compile_for_tpu(export_training_step(model_config, shared_out, 8), "v3")
    expected = [optimizer_state_bytes(model_config, one, 8) for one in (config, shared_out)]
    saved_bytes = expected[0] - expected[1]
    # A TPU pads each small array by itself, so the whole state takes more than by arithmetic, and saves more.
    assert saved_bytes < whole.argument_bytes - part.argument_bytes < 1.3 * saved_bytes
