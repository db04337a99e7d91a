"""Starts `train_tfrecords.py` as real processes, for the tests that kill them."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from places import REPOSITORY
from tiny_models import ALGPT2_CONFIG

TIMEOUT_SECONDS = 150
TENSORS = ("model.safetensors", "optimizer.safetensors")


def write_config(path, **changes):
    """Writes a tiny model's config that fits the fixture `records_folder`."""
    config = dataclasses.replace(ALGPT2_CONFIG, vocab_size=300, n_layer=1, **changes)
    path.write_text(json.dumps(config.to_dict()))
    return str(path)


def start(records_folder, model_dir, config_path, steps, *flags, environment=None):
    """Returns the process; it is niced so that the tests' own clock does not starve."""
    command = [
        *(sys.executable, str(REPOSITORY / "train_tfrecords.py"), "--train_path", records_folder),
        *("--config_path", config_path, "--model_dir", str(model_dir), "--steps", str(steps)),
        *("--batch_size", "8", "--learning_rate", "1e-2", *flags),
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env={**os.environ, **(environment or {})}, **pipes)


def finish(process, status=0):
    """Waits for the process to end with this status; returns its result and what it logged."""
    output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == status, errors[-3000:]
    return json.loads(output) if status == 0 else None, errors


def wait_for_new_checkpoint(process, model_dir):
    """Waits until the process has begun a checkpoint newer than those there now."""
    newest = max(Path(model_dir).glob("checkpoints/*"), default=None)
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while max(Path(model_dir).glob("checkpoints/*"), default=None) == newest:
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline, "no checkpoint came"
        time.sleep(0.01)


def final_tensors(model_dir, steps):
    """Returns the bytes of a finished run's parameters and optimizer state."""
    folder = Path(model_dir) / "checkpoints" / f"step_{steps:08d}"
    return [(folder / name).read_bytes() for name in TENSORS]


def cluster_environments(n_workers):
    """Returns one environment for each worker process of a cluster on this machine."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(n_workers)]
    addresses = [f"127.0.0.1:{server.getsockname()[1]}" for server in sockets]
    for server in sockets:
        server.close()
    return [
        {"TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}})}
        for index in range(n_workers)
    ]
