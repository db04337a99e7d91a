"""The proxy that other tests put faults into: both clients go through it, and a fault befalls what it is meant for."""

import os
import subprocess
import sys
import time

import pytest
import requests

from algpt2 import storage
from algpt2.errors import UserError

READ_WITH_TENSORFLOW = "import sys, tensorflow as tf; print(tf.io.read_file(sys.argv[1]).numpy().decode())"


def test_tensorflow_reads_through_the_proxy_what_our_client_wrote_through_it(cloud):
    storage.write_text("gs://bucket/folder/name[1].txt", "a text")
    environment = {**os.environ, **cloud.environment()}
    command = [sys.executable, "-c", READ_WITH_TENSORFLOW, "gs://bucket/folder/name[1].txt"]
    read = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert read.stdout == "a text\n", read.stderr
    assert {request.method for request in cloud.requests} == {"GET", "POST"}


def test_a_fault_befalls_the_requests_that_it_names_and_ends(cloud):
    storage.write_text("gs://bucket/a", "text")
    with cloud.failing("GET", part="/o/a", status=418):
        assert requests.get(f"{cloud.address}/storage/v1/b/bucket/o/a").status_code == 418
        assert requests.get(f"{cloud.address}/storage/v1/b/bucket/o").status_code == 200
    assert storage.read_text("gs://bucket/a") == "text"


def test_an_upload_is_known_by_the_name_of_its_object(cloud):
    with cloud.failing("POST", part="folder/a", status=403), pytest.raises(UserError, match="injected"):
        storage.write_text("gs://bucket/folder/a", "text")
    with cloud.failing("POST", part="folder/b", status=418):
        storage.write_text("gs://bucket/folder/a", "text")


def test_a_fault_may_be_counted(cloud):
    with cloud.failing(status=418, times=1):
        statuses = [requests.get(f"{cloud.address}/storage/v1/b/bucket/o").status_code for _ in range(2)]
    assert statuses == [418, 200]


def test_an_outage_resets_every_connection(cloud):
    with cloud.failing(), pytest.raises(requests.ConnectionError):
        requests.get(f"{cloud.address}/storage/v1/b/bucket/o")


def test_a_fault_may_be_a_slow_answer(cloud):
    begin = time.monotonic()
    with cloud.failing(delay_seconds=0.3):
        assert requests.get(f"{cloud.address}/storage/v1/b/bucket/o").status_code == 200
    assert time.monotonic() - begin >= 0.3
