"""Training configuration: its rules, the division of the global batch, and where the loop must stop."""

import dataclasses
import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from algpt2.config.cadence import Cadence
from algpt2.config.training import DEFAULT_LEARNING_RATE, OPTIMIZERS, TrainConfig
from algpt2.errors import UserError

VALID = TrainConfig(total_steps=100)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("total_steps", [0, -1]),
        ("batch_size", [0]),
        ("accumulation_steps", [0]),
        ("min_dim_size_to_factor", [0]),
        ("warmup_steps", [-1, 101]),
        ("weight_decay", [-0.1, float("nan")]),
        ("clip_norm", [-1.0, float("nan")]),
        ("learning_rate", [0.0, -1e-3, float("nan")]),
        ("epsilon", [0.0]),
        ("beta_1", [-0.1, 1.0]),
        ("beta_2", [-0.1, 1.0]),
        ("muon_momentum", [-0.1, 1.0]),
        ("final_learning_rate_fraction", [-0.1, 1.1]),
        ("optimizer", ["sgd", "AdamW", ""]),
        ("decay", ["exponential"]),
        ("warmup_tokens", [0.0, -1.0, float("nan"), float("inf")]),
        ("cooldown_fraction", [0.0, -0.1, 1.1, float("nan")]),
        ("cooldown_shape", ["sqrt"]),
        ("compute_dtype", ["float16"]),
        ("seed", [-1, 2**31]),
    ],
)
def test_a_value_outside_its_rule_is_refused_by_name(name, values):
    for value in values:
        with pytest.raises(UserError, match=rf"^{name} must be .*, received "):
            dataclasses.replace(VALID, **{name: value})


@pytest.mark.parametrize(
    "fields",
    [
        {"total_steps": 1},
        {"warmup_steps": 100},
        {"weight_decay": 0, "clip_norm": 0},
        {"beta_1": 0.0, "beta_2": 0.0},
        {"final_learning_rate_fraction": 0.0},
        {"final_learning_rate_fraction": 1.0},
        {"decay": "wsd", "cooldown_fraction": 1.0},
        {"decay": "wsd", "cooldown_fraction": 0.9, "warmup_steps": 10},
        {"seed": 2**31 - 1},
    ],
)
def test_the_bounds_themselves_are_allowed(fields):
    assert dataclasses.replace(VALID, **fields).to_dict().items() >= fields.items()


@pytest.mark.parametrize("decay", ["cosine", "tokens_cosine"])
def test_a_warm_up_in_steps_and_in_tokens_at_once_is_refused(decay):
    decay_tokens = 1e6 if decay == "tokens_cosine" else None
    fields = {"decay": decay, "decay_tokens": decay_tokens, "warmup_tokens": 1.125e9}
    with pytest.raises(UserError, match="not both, received warmup_steps=5 and warmup_tokens=1125000000: leave one"):
        dataclasses.replace(VALID, warmup_steps=5, **fields)
    assert dataclasses.replace(VALID, warmup_steps=0, **fields).warmup_tokens == 1.125e9


@pytest.mark.parametrize(("decay", "decay_tokens"), [("tokens_cosine", None), ("cosine", 1e6), ("wsd", 1e6)])
def test_the_tokens_of_the_decay_belong_to_one_decay_only(decay, decay_tokens):
    with pytest.raises(UserError, match=f"decay_tokens must be given with .*received decay={decay} and"):
        dataclasses.replace(VALID, decay=decay, decay_tokens=decay_tokens)


def test_only_state_of_the_size_of_the_model_can_be_shared_out():
    for optimizer in ("adamw", "muon"):
        assert dataclasses.replace(VALID, optimizer=optimizer, shard_optimizer_state=True).shard_optimizer_state
    with pytest.raises(UserError, match="with optimizer=adamw or muon, received optimizer=adafactor.*leave it out"):
        dataclasses.replace(VALID, optimizer="adafactor", shard_optimizer_state=True)


@pytest.mark.parametrize("decay_tokens", [0.0, -1.0])
def test_a_decay_of_no_tokens_is_refused(decay_tokens):
    with pytest.raises(UserError, match="decay_tokens must be above 0"):
        dataclasses.replace(VALID, decay="tokens_cosine", decay_tokens=decay_tokens)


def test_a_warm_up_that_runs_into_the_cooldown_is_refused_in_steps_and_in_tokens():
    """It would fall off the peak, or never reach it."""
    config = dataclasses.replace(VALID, decay="wsd", cooldown_fraction=0.3, warmup_steps=70)
    with pytest.raises(UserError, match="warmup_steps must be at most 70 steps .*cooldown.*received 71"):
        dataclasses.replace(config, warmup_steps=71)
    config = dataclasses.replace(config, warmup_steps=0, warmup_tokens=70 * 32.0)
    assert config.warmup_updates(32) == 70
    with pytest.raises(UserError, match="warmup_tokens must be at most 2170 tokens .*cooldown"):
        config.warmup_updates(31)


@pytest.mark.parametrize("decay", ["cosine", "linear", "constant"])
def test_a_warm_up_in_tokens_longer_than_the_run_is_refused(decay):
    config = dataclasses.replace(VALID, decay=decay, warmup_tokens=1000.0)
    assert config.warmup_updates(16) == 62.5
    with pytest.raises(UserError, match="warmup_tokens must be at most 900 tokens, received 1000.0"):
        config.warmup_updates(9)


def test_the_decay_must_end_after_the_warm_up_whichever_way_that_is_given():
    for warmup in ({"warmup_tokens": 640.0}, {"warmup_steps": 40}):
        config = dataclasses.replace(VALID, decay="tokens_cosine", decay_tokens=641.0, **warmup)
        assert config.warmup_updates(16) == 40
        with pytest.raises(UserError, match="decay_tokens must be above the warm-up's 640 tokens, received 640.0"):
            dataclasses.replace(config, decay_tokens=640.0).warmup_updates(16)


@pytest.mark.parametrize(("fraction", "steps"), [(0.2, 20), (0.29, 29), (1.0, 100), (1e-6, 1)])
def test_the_cooldown_is_a_whole_number_of_steps(fraction, steps):
    assert dataclasses.replace(VALID, cooldown_fraction=fraction).cooldown_steps == steps


def test_every_optimizer_has_a_default_learning_rate_and_the_default_is_the_default_optimizers():
    assert set(DEFAULT_LEARNING_RATE) == set(OPTIMIZERS)
    assert DEFAULT_LEARNING_RATE[VALID.optimizer] == VALID.learning_rate


def test_a_configuration_comes_back_from_json():
    config = dataclasses.replace(VALID, beta_1=0.8, jit_compile=False)
    assert TrainConfig(**json.loads(json.dumps(config.to_dict()))) == config


@settings(deadline=None)
@given(micro_batch=st.integers(1, 9), accumulation_steps=st.integers(1, 9), n_replicas=st.integers(1, 9))
def test_micro_batches_make_up_the_global_batch(micro_batch, accumulation_steps, n_replicas):
    batch_size = micro_batch * accumulation_steps * n_replicas
    config = dataclasses.replace(VALID, batch_size=batch_size, accumulation_steps=accumulation_steps)
    assert config.micro_batch_size(n_replicas) == micro_batch


@settings(deadline=None)
@given(batch_size=st.integers(1, 100), accumulation_steps=st.integers(1, 9), n_replicas=st.integers(1, 9))
def test_a_batch_that_does_not_divide_is_refused_with_the_next_one_that_does(
    batch_size, accumulation_steps, n_replicas
):
    assume(batch_size % (accumulation_steps * n_replicas))
    config = dataclasses.replace(VALID, batch_size=batch_size, accumulation_steps=accumulation_steps)
    with pytest.raises(UserError, match="multiple of replicas x accumulation_steps") as raised:
        config.micro_batch_size(n_replicas)
    assert f"= {n_replicas} x {accumulation_steps}, received {batch_size}: " in str(raised.value)
    proposed = int(str(raised.value).split(": ")[-1].split()[0])
    assert proposed > batch_size
    assert dataclasses.replace(config, batch_size=proposed).micro_batch_size(n_replicas) >= 1


periods = st.integers(1, 40)


@settings(deadline=None)
@given(log=periods, evaluate=periods, save=periods, loop=periods, total_steps=st.integers(1, 200), first=st.data())
def test_the_loop_stops_at_every_log_validation_checkpoint_and_the_end_and_crosses_none(
    log, evaluate, save, loop, total_steps, first
):
    cadence = Cadence(log_every_steps=log, eval_every_steps=evaluate, save_every_steps=save, steps_per_loop=loop)
    step = first.draw(st.integers(0, total_steps - 1))  # a resumed run starts anywhere
    stops = {step}
    start = step
    while step < total_steps:
        n_steps = cadence.steps_until_next_stop(step, total_steps)
        assert 1 <= n_steps <= loop
        step += n_steps
        stops.add(step)
    assert step == total_steps
    due = {s for s in range(start, total_steps + 1) for period in (log, evaluate, save) if s % period == 0}
    assert due <= stops
    # No stop without a reason: one of the above, or a full graph call.
    assert all(s in due or s in (start, total_steps) or s - loop in stops for s in stops)


MAY_BE_OFF = ("save_every_minutes", "keep_every_steps", "numerics_batches", "numerics_tolerance")


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Cadence)])
def test_a_period_below_1_or_one_that_may_be_off_below_0_is_refused_by_name(name):
    least = 0 if name in MAY_BE_OFF else 1
    Cadence(**{name: least})
    with pytest.raises(UserError, match=f"{name} must be at least {least}.*, received {least - 1}"):
        Cadence(**{name: least - 1})
