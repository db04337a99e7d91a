"""The whole road on Cloud Storage, with kills and faults on it: every file and every figure is that of a disk.

Writes and most reads are those of the client google-cloud-storage. Training reads its records with TensorFlow's own.
"""

import contextlib
import json
import re
import shutil
import subprocess
import sys
import time

import impatient_training
import numpy as np
import pytest
from command_line import EVALUATE, GOOD, RECORDS, TOKENIZER, TRAIN, WORDS, to_arguments
from impatient_training import Training
from places import REPOSITORY
from training_process import TENSORS, write_config

from algpt2 import storage
from algpt2.checkpoints.folder import checkpoint_step, committed_checkpoints
from algpt2.storage import cloud_lease
from algpt2.tracking.metrics import read_metrics

LONG_SECONDS = 10_000.0
ROOT = "gs://bucket"


def contents(folder):
    """Returns the content of each file below a folder, by its path in it.

    What the records were made of is left out, and the hashes of it, because it says where the text lies.
    """
    files = {path.removeprefix(f"{folder}/"): storage.read_bytes(path) for path in storage.expand(folder)}
    files.pop("sources.json", None)
    if "manifest.json" in files:
        files["manifest.json"] = re.sub(rb'"(sources|content)_sha256": "\w+"', b"", files["manifest.json"])
    return files


def wait_for_request(cloud, method, part, is_alive):
    """Waits until a process has made such a request, while it lives."""
    deadline = time.monotonic() + impatient_training.TIMEOUT_SECONDS
    while not any(one.method == method and part in one.path for one in list(cloud.requests)):
        assert is_alive(), "it ended before"
        assert time.monotonic() < deadline, part
        time.sleep(0.01)


@pytest.fixture
def few_faults(cloud):
    """What enters a while in which requests of every kind are answered with 503, or cut off, and then no more."""

    @contextlib.contextmanager
    def few_faults():
        with contextlib.ExitStack() as stack:
            for method in ("GET", "POST", "DELETE"):
                stack.enter_context(cloud.failing(method, status=503, times=1))
                stack.enter_context(cloud.failing(method, times=1))
            yield

    return few_faults


@pytest.fixture
def corpus(tmp_path):
    """Text of three pieces, on a disk and on Cloud Storage under the same names."""
    documents = np.random.default_rng(0).choice(WORDS, size=(16_000, 25))
    lines = "".join(json.dumps({"text": " ".join(document)}) + "\n" for document in documents)
    for root in (str(tmp_path), ROOT):
        storage.write_text(storage.join(root, "corpus.jsonl"), lines)


def test_records_made_on_cloud_storage_with_a_kill_and_in_parts_are_those_of_a_disk(
    cloud, few_faults, corpus, run_script, tmp_path, monkeypatch
):
    monkeypatch.setattr(cloud_lease, "LEASE_SECONDS", 1.0)

    def call(script, root, **changes):
        flags = {"input": "{good}/corpus.jsonl", "tokenizer": "{good}/tokenizer"} if script == RECORDS else {}
        return run_script(script, {"good": root, "out": f"{root}/data"}, **{**flags, **changes}).result

    on_disk, on_cloud = str(tmp_path), ROOT
    with few_faults():
        results = [call(TOKENIZER, root, output=f"{root}/tokenizer") for root in (on_disk, on_cloud)]
    assert results[0] == results[1]
    assert contents(f"{on_disk}/tokenizer") == contents(f"{on_cloud}/tokenizer")

    kill_while_shards_are_uploaded(cloud)
    before = len(cloud.requests)
    with few_faults():
        call(RECORDS, on_cloud, num_workers=1)
    assert not any(".documents" in one.path for one in cloud.requests[before:] if one.method == "POST"), "encoded again"
    call(RECORDS, on_disk, num_workers=1)
    assert contents(f"{on_disk}/data") == contents(f"{on_cloud}/data")

    parts = {"output": f"{ROOT}/parts", "num_workers": 1}
    assert sum(call(RECORDS, on_cloud, shard=f"{i}/2", **parts)["documents"] for i in (1, 0)) == 16_000
    call(RECORDS, on_cloud, merge=True, **parts)
    assert contents(f"{on_cloud}/parts") == contents(f"{on_disk}/data")


def kill_while_shards_are_uploaded(cloud):
    places = {"good": ROOT, "out": f"{ROOT}/data"}
    command = [sys.executable, REPOSITORY / RECORDS, *to_arguments({**GOOD[RECORDS], "num_workers": 2}, places)]
    with cloud.failing("POST", part=".tfrecord", delay_seconds=LONG_SECONDS):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for_request(cloud, "POST", ".tfrecord", lambda: process.poll() is None)
        finally:
            process.kill()
            process.wait()
    assert len([path for path in contents(f"{ROOT}/data") if path.endswith(".documents")]) == 6


def test_a_run_on_cloud_storage_that_is_killed_and_gone_on_with_is_one_on_a_disk(
    cloud, few_faults, records_folder, run_script, tmp_path
):
    """The kill comes while a checkpoint is uploaded, which then has no marker."""
    on_disk, on_cloud = str(tmp_path), ROOT
    write_config(tmp_path / "config.json")
    (tmp_path / "heldout.txt").write_text(" ".join(WORDS * 20))
    shutil.copytree(records_folder, tmp_path / "records")
    for path in (*(f"records/{file}" for file in contents(records_folder)), "config.json", "heldout.txt"):
        storage.write_bytes(f"{on_cloud}/{path}", storage.read_bytes(f"{on_disk}/{path}"))

    def start(name, root, environment):
        flags = {**GOOD[TRAIN], "config_path": "{good}/config.json", "model_dir": "{good}/run"}
        (tmp_path / name).mkdir()
        return Training(tmp_path / name, environment, 60, *to_arguments(flags, {"good": root}))

    uninterrupted = start("uninterrupted", on_disk, {})
    marker = "checkpoints/step_00000020/COMMITTED"
    with cloud.failing("POST", part=marker, delay_seconds=LONG_SECONDS), few_faults():
        killed = start("killed", on_cloud, cloud.environment())
        wait_for_request(cloud, "POST", marker, killed.process.is_alive)
        killed.process.kill()
        killed.process.join()
    assert [checkpoint_step(folder) for folder in committed_checkpoints(f"{on_cloud}/run")] == [10]
    assert storage.exists(f"{on_cloud}/run/checkpoints/step_00000020/model.safetensors")

    with few_faults():
        resumed = start("resumed", on_cloud, cloud.environment())
        result = json.loads(resumed.finish())
    expected = json.loads(uninterrupted.finish())
    assert f"resuming from {on_cloud}/run/checkpoints/step_00000010" in resumed.log
    assert any(one.method == "GET" and one.path.startswith("/bucket/records/train-") for one in cloud.requests)
    assert (result["step"], result["val_loss"]) == (30, expected["val_loss"])
    assert losses(f"{on_cloud}/run") == losses(f"{on_disk}/run")
    for name in (f"checkpoints/step_00000030/{name}" for name in TENSORS):
        assert storage.read_bytes(f"{on_cloud}/run/{name}") == storage.read_bytes(f"{on_disk}/run/{name}")

    scores = [
        run_script(EVALUATE, {"good": root}, checkpoint="{good}/run").result | {"checkpoint": "", "data": ""}
        for root in (on_cloud, on_disk)
    ]
    assert scores[0] == scores[1]


def losses(run):
    return [(line["step"], line.get("loss"), line.get("val_loss")) for line in read_metrics(run)]
