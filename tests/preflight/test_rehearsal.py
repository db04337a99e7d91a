"""Pure parts without a compiler; the compiler's own parts where the extra `rehearsal` is installed."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import tensorflow as tf
from command_line import TRAIN, call
from marks import needs_tpu_compiler
from tiny_models import ALGPT2_CONFIG, GPT2_CONFIG

from algpt2.config.model import preset
from algpt2.config.training import TrainConfig
from algpt2.devices.chips import GIB
from algpt2.devices.tpu_pods import pod_named, roofline
from algpt2.errors import UserError
from algpt2.model.losses import mean_head_nats
from algpt2.model.sizes import training_flops_per_token
from algpt2.preflight import hlo_text, rehearsal, step_export, tpu_compiler
from algpt2.preflight.batch_search import Trial, largest_fitting
from algpt2.preflight.hlo_loops import flops_with_every_round
from algpt2.preflight.rehearsal import config_of_one_replica, rehearse, table_of
from algpt2.preflight.step_export import export, export_training_step
from algpt2.preflight.tpu_compiler import Compiled, compile_for_tpu
from algpt2.training import step

CONFIG = TrainConfig(total_steps=10, batch_size=2, compute_dtype="bfloat16", jit_compile=False)
RECORDED = Path(__file__).with_name("rehearsed_memory.json")


@pytest.mark.parametrize(
    ("name", "n_chips", "n_replicas", "hbm_gib"),
    [("v3-128", 64, 128, 16), ("v2-8", 4, 8, 8), ("v4-8", 4, 4, 32), ("v5litepod-8", 8, 8, 16), ("v6e-1", 1, 1, 32)],
)
def test_the_number_of_a_pod_counts_cores_or_chips(name, n_chips, n_replicas, hbm_gib):
    pod = pod_named(name)
    assert (pod.n_chips, pod.n_replicas, pod.replica_hbm_bytes) == (n_chips, n_replicas, hbm_gib * GIB)
    assert pod_named("v5e-8").n_replicas == pod_named("v5litepod-8").n_replicas


@pytest.mark.parametrize("name", ["v3", "v3-7", "v3-0", "v3-4096", "v7-8", "v5e-512", "my-pod", "xv3-8"])
def test_an_unknown_pod_is_refused_with_the_list(name):
    with pytest.raises(UserError, match=r"v2-N .*v5litepod-N or v5e-N .*v6e-N .*received"):
        pod_named(name)


def test_the_all_reduce_sends_twice_the_bytes_over_all_links_of_a_chip():
    pod = pod_named("v3-128")
    assert pod.all_reduce_seconds(4 * 328e9) == pytest.approx(2 * 63 / 64 * 4)
    assert pod_named("v3-2").all_reduce_seconds(1e9) == 0


def test_a_step_takes_the_longer_of_arithmetic_and_memory_and_then_the_all_reduce():
    bound = roofline(pod_named("v3-8"), flops=2 * 61.5e12, hbm_bytes_moved=450e9, reduced_bytes=328e9)
    assert (bound.compute_seconds, bound.memory_seconds, bound.all_reduce_seconds) == pytest.approx((2, 1, 1.5))
    assert bound.seconds == pytest.approx(3.5)


@pytest.mark.parametrize("known", [1, 3, 40, 56])
def test_the_largest_batch_is_found_where_memory_grows_evenly(known):
    tried = []

    def compile_batch(batch):
        tried.append(batch)
        return Trial(batch, 100 + 25 * batch, 100 + 25 * batch <= 1000)

    assert largest_fitting(compile_batch, compile_batch(known), fixed_bytes=100, memory_bytes=1000) == (36, 37)
    assert len(tried) <= 5


def test_the_largest_batch_is_found_where_the_compiler_recomputes_to_make_it_fit():
    """Peaks that level off below what there is, until nothing helps: a straight line would stop too early."""
    largest, _ = largest_fitting(lambda b: Trial(b, min(100 + 50 * b, 990), b <= 21), Trial(4, 300, True), 100, 1000)
    assert largest == 21
    none = largest_fitting(lambda b: Trial(b, 2000, False), Trial(1, 2000, False), 100, 1000)
    assert none == (0, 1)


NESTED = """HloModule step, is_scheduled=true

%outer_condition (a: (s32[])) -> pred[] {
  %a = (s32[]) parameter(0)
  %i = s32[]{:T(256)} get-tuple-element(%a), index=0
  %limit = s32[]{:T(256)} constant(4), metadata={op_name="while"}
  ROOT %less = pred[]{:T(1024)} compare(%i, %limit), direction=LT
}

%inner_condition (b: (s32[])) -> pred[] {
  %b = (s32[]) parameter(0)
  %j = s32[] get-tuple-element(%b), index=0
  %end = s32[] get-tuple-element(%b), index=1
  ROOT %less.2 = pred[] compare(%j, %end), direction=LT
}

%inner (c: (s32[])) -> (s32[]) {
  ROOT %d = (s32[]) parameter(0)
}

%outer (e: (s32[])) -> (s32[]) {
  %e = (s32[]) parameter(0)
  ROOT %w.2 = (s32[]) while(%e), condition=%inner_condition, body=%inner
}

%called (f: (s32[])) -> (s32[]) {
  %f = (s32[]) parameter(0)
  ROOT %w.1 = (s32[]) while(%f), condition=%outer_condition, body=%outer
}

ENTRY %main (g: (s32[])) -> (s32[]) {
  %g = (s32[]) parameter(0)
  ROOT %h = (s32[]) call(%g), to_apply=%called
}
"""


def test_the_body_of_a_loop_counts_as_often_as_it_runs():
    """The outer loop runs 4 times; the inner one's limit is no constant, so its body counts once in each."""
    flops = {"main": 100.0, "outer": 30.0, "inner": 20.0}
    program = hlo_text.parse(NESTED)
    assert program.rounds == {"inner": None, "outer": 4}
    assert flops_with_every_round(program, flops.get) == 100 + 3 * 30
    known = hlo_text.parse(NESTED.replace("%end = s32[] get-tuple-element(%b), index=1", "%end = s32[] constant(5)"))
    # the outer body is 10 without its loop, and 10 + 5 x 20 with it
    assert flops_with_every_round(known, flops.get) == 70 + 4 * (10 + 5 * 20)


def test_a_replica_runs_its_share_of_the_batch_and_keeps_the_tokens_of_the_run():
    config = TrainConfig(total_steps=10, batch_size=64, accumulation_steps=2, warmup_tokens=5e4, decay="constant")
    own = config_of_one_replica(config, pod_named("v3-8"), 3)
    assert (own.batch_size, own.accumulation_steps, own.jit_compile) == (6, 2, False)
    assert own.total_steps * own.batch_size >= 640
    own.warmup_updates(6 * 128)  # the warm-up of 50,000 of its 81,920 tokens still fits


def fake_compiler(monkeypatch, compiled):
    monkeypatch.setattr(tpu_compiler, "require_compiler", lambda: None)
    monkeypatch.setattr(tpu_compiler, "compiler_version", lambda: "0")
    monkeypatch.setattr(step_export, "export_training_step", lambda model, config: config.batch_size)
    monkeypatch.setattr(tpu_compiler, "compile_for_tpu", lambda program, kind: compiled(program))


def test_the_figures_of_a_run_follow_from_those_of_a_core(monkeypatch):
    fake_compiler(monkeypatch, lambda batch: Compiled(round(1.7 * batch * GIB), batch <= 9, GIB, 61.5e12, 90e9, 70e9))
    config = TrainConfig(total_steps=1000, batch_size=512, compute_dtype="bfloat16")
    found = rehearse(preset("gpt2"), config, "v3-128")
    figures = found.figures()
    assert (found.batch_per_core, found.largest_batch_per_core, found.too_large_batch_per_core) == (4, 9, 10)
    reduction = 2 * 63 / 64 * 4 * 124_439_808 / 328e9
    assert (figures["hbm_bytes_moved"], figures["on_chip_bytes_moved"]) == (90e9, 70e9)
    assert figures["memory_seconds"] == pytest.approx(90e9 / 450e9)  # what stays on the chip takes none of it
    assert figures["roofline_seconds"] == pytest.approx(1 + reduction)
    assert figures["tokens_per_second_at_roofline"] == pytest.approx(512 * 1024 / (1 + reduction))
    assert figures["hours_at_roofline"] == pytest.approx(1000 * (1 + reduction) / 3600)
    model_flops = 4 * 1024 * training_flops_per_token(preset("gpt2"))
    assert figures["mfu_at_roofline"] == pytest.approx(model_flops / 61.5e12 / (1 + reduction))
    table = dict(table_of(found))
    assert table["largest batch of a core"] == "9 (10 does not fit)"
    assert table["memory traffic"].startswith("at least 90.00 GB")
    assert "may pass 100%" in table["MFU at the roofline"]
    assert set(figures["estimates"]) <= set(figures)


def test_a_step_that_does_not_fit_has_no_speed_and_exit_status_2(monkeypatch, capsys):
    fake_compiler(monkeypatch, lambda batch: Compiled(20 * GIB, fits=False))
    found = rehearse(preset("gpt2"), TrainConfig(total_steps=1, batch_size=512), "v3-128", search=False)
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


def test_without_the_compiler_the_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(tpu_compiler.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=re.escape("jax and libtpu, which is not installed: run `pip install")):
        rehearse(GPT2_CONFIG, CONFIG, "v3-8")
    monkeypatch.setattr(tpu_compiler.util, "find_spec", lambda name: name)
    monkeypatch.setattr(tpu_compiler.metadata, "version", lambda name: "0.6.2")
    with pytest.raises(UserError, match="needs jax 0.10 or newer.*found jax 0.6.2"):
        rehearse(GPT2_CONFIG, CONFIG, "v3-8")


def printing(hidden, table, targets, count):
    tf.print(hidden[0, 0, 0])  # refused here
    return mean_head_nats(hidden, table, targets, count)


def of_dynamic_shape(hidden, table, targets, count):
    kept = tf.boolean_mask(hidden, targets > 3)  # refused here
    return mean_head_nats(hidden, table, targets, count) + tf.reduce_sum(tf.cast(kept, tf.float32))


@pytest.mark.parametrize(
    ("loss", "operation", "accumulation_steps"), [(printing, "StringFormat", 1), (of_dynamic_shape, "Where", 2)]
)
def test_a_step_that_no_tpu_can_run_is_refused_with_the_operation_and_the_line(
    monkeypatch, loss, operation, accumulation_steps
):
    monkeypatch.setattr(step, "mean_head_nats", loss)
    line = loss.__code__.co_firstlineno + 1
    with pytest.raises(UserError, match=rf"\b{operation}\b.*test_rehearsal\.py:{line}\)"):
        export_training_step(ALGPT2_CONFIG, dataclasses.replace(CONFIG, accumulation_steps=accumulation_steps))


@pytest.mark.parametrize(
    ("message", "peak"),
    [
        ("Ran out of memory in memory space hbm. Used 36.52G of 31.25G hbm. Exceeded", round(36.52 * GIB)),
        ("RESOURCE_EXHAUSTED: Allocation (size=19604480000) would exceed memory (size=17179869184) ::", 19604480000),
        ("RESOURCE_EXHAUSTED: Allocation (size=5) would exceed memory (size=17179869184) ::", 17179869184),
    ],
)
def test_what_libtpu_says_of_too_large_a_program_is_read(message, peak):
    """As libtpu 0.0.30 said it for v6e and for v3."""
    found = tpu_compiler.too_large(message)
    assert (found.fits, found.peak_hbm_bytes, found.flops) == (False, peak, None)
    assert tpu_compiler.too_large("some other error") is None


def test_operations_of_static_shape_are_not_refused():
    """`top_k` leaves the mark of dynamic dimensions in a program that has none."""
    assert b"set_dimension_size" in export(lambda x: tf.sort(x), tf.TensorSpec((4, 8), tf.float32))


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
@pytest.mark.parametrize(("name", "remat"), [("gpt2", "none"), ("algpt2", "block")])
def test_a_preset_takes_no_more_memory_of_a_v3_core_than_recorded(name, remat):
    """Peaks repeat to the byte; a change that is meant to take more is recorded anew."""
    recorded = json.loads(RECORDED.read_text())
    if recorded["libtpu"] != tpu_compiler.compiler_version():
        pytest.skip(f"recorded with libtpu {recorded['libtpu']}")
    config = dataclasses.replace(CONFIG, batch_size=4, remat=remat)
    model_config = dataclasses.replace(preset(name), dropout=recorded["dropout"])
    compiled = compile_for_tpu(export_training_step(model_config, config), "v3")
    assert compiled.peak_hbm_bytes <= 1.05 * recorded["peak_hbm_bytes"][name]
