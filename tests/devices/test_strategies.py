"""Strategies: the default one without a TPU, and every TPU that cannot be had is a sentence, soon.

What initialises or connects to a TPU runs in an interpreter of its own: it would disturb the other tests' runtime.
"""

import json
import socket
import subprocess
import sys

import pytest
import tensorflow as tf

from algpt2.devices import strategies
from algpt2.errors import UserError

UNREACHABLE = ["grpc://127.0.0.1:1", "grpc://nonsense", "grpc://:8470", "no-such-tpu"]
PROGRAM = """
import json, sys, time
from algpt2.devices import wheels
wheels.require_tensorflow()
from algpt2.devices.strategies import create_strategy
from algpt2.errors import UserError

def outcome(tpu):
    start = time.perf_counter()
    try:
        found = type(create_strategy(tpu)).__name__
    except UserError as error:
        found = str(error)
    return found, time.perf_counter() - start

print(json.dumps([outcome(tpu) for tpu in json.loads(sys.argv[1])]))
"""


def outcomes(tpus):
    command = [sys.executable, "-c", PROGRAM, json.dumps(tpus)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return dict(zip(tpus, json.loads(ended.stdout), strict=True))


@pytest.fixture(scope="module")
def found():
    """What becomes of each value of --tpu: a strategy's class or the error's sentence, and the seconds it took."""
    return outcomes([*UNREACHABLE, "local"])


def test_without_a_tpu_or_gpus_it_is_the_default_strategy():
    if tf.config.list_logical_devices("GPU"):
        pytest.skip("this machine has GPUs")
    for tpu in (None, ""):
        strategy = strategies.create_strategy(tpu)
        assert strategy is tf.distribute.get_strategy()
        assert strategy.num_replicas_in_sync == 1
        assert not strategies.is_tpu(strategy)


@pytest.mark.parametrize("tpu", UNREACHABLE)
def test_a_tpu_that_cannot_be_found_or_reached_is_a_sentence_within_seconds(found, tpu):
    sentence, seconds = found[tpu]
    assert sentence.startswith(f"--tpu must name a TPU that this machine can reach, received '{tpu}' (")
    assert "gcloud compute tpus tpu-vm list" in sentence
    assert "\n" not in sentence
    assert seconds < strategies.ANSWER_TIMEOUT_SECONDS + 30, "TensorFlow itself would wait without end"


def test_local_on_a_machine_without_a_tpu_is_a_sentence(found):
    sentence, _ = found["local"]
    if sentence.startswith("TPUStrategy"):
        pytest.skip("this machine has a TPU")
    assert sentence.startswith("--tpu must name a TPU that this machine can reach, received 'local' (")
    assert "\n" not in sentence


def test_an_address_that_never_answers_is_given_up_after_the_time_limit(monkeypatch):
    """TensorFlow itself would wait without end."""
    asked = []

    def create_connection(address, timeout=None):
        asked.append((address, timeout))
        raise TimeoutError("timed out")

    monkeypatch.setattr(strategies.socket, "create_connection", create_connection)
    with pytest.raises(UserError, match="timed out"):
        strategies.create_strategy("grpc://10.255.255.1:8470")
    assert asked == [(("10.255.255.1", 8470), strategies.ANSWER_TIMEOUT_SECONDS)]


@pytest.mark.parametrize("tpu", ["v3-pod", "grpc://10.0.0.2:8470"])
def test_a_tpu_on_another_machine_cannot_read_a_local_path(tpu):
    with pytest.raises(UserError, match=r"reads its data from gs:// only, received '/data/a'.*--tpu local"):
        strategies.require_readable_by_tpu(tpu, ["gs://bucket/a", "/data/a", "/data/b"])
    strategies.require_readable_by_tpu(tpu, ["gs://bucket/a"])


@pytest.mark.parametrize("tpu", [None, "", "local"])
def test_without_a_tpu_and_on_a_tpu_vm_local_paths_are_readable(tpu):
    strategies.require_readable_by_tpu(tpu, ["/data/a", "gs://bucket/a"])


def test_an_address_that_takes_connections_but_speaks_no_grpc_is_given_up(monkeypatch):
    """TensorFlow would wait for it without end; a wrong port or a wedged runtime looks like this."""
    monkeypatch.setattr(strategies, "ANSWER_TIMEOUT_SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"grpc://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UserError, match="did not answer within 1 s"):
            strategies.create_strategy(address)
