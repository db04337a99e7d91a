import multiprocessing
import os
import signal
import time

import pytest

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.storage import cloud_lease
from algpt2.storage.folder_lock import locked


def hold(folder, ready):
    with locked(folder):
        ready.set()
        signal.pause()


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder."""
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hold, args=(str(tmp_path), ready))
    process.start()
    assert ready.wait(60)
    yield process
    process.kill()
    process.join()


def test_a_second_process_is_refused_while_the_first_one_lives(tmp_path, holder):
    with pytest.raises(UserError, match="one process at a time may train in a folder"), locked(str(tmp_path)):
        pass


def test_a_killed_process_leaves_no_lock_behind(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with locked(str(tmp_path)):
        pass


def test_a_lock_is_let_go_of_at_the_end(tmp_path):
    for _ in range(2):
        with locked(str(tmp_path)):
            pass


def test_a_lock_on_a_disk_is_never_lost(tmp_path):
    with locked(str(tmp_path)) as lock:
        assert not lock.lost


def test_a_second_run_on_cloud_storage_is_refused_and_the_first_one_knows_when_it_lost_its_folder(
    bucket, tmp_path, monkeypatch
):
    monkeypatch.setattr(cloud_lease, "LEASE_SECONDS", 1.5)
    folder = f"{bucket}/{tmp_path.name}"
    with locked(folder) as lock:
        refused = pytest.raises(
            UserError, match=f"at a time may make it in a folder, and .* does in {folder}: .* --out"
        )
        with refused, locked(folder, work="make it", flag="--out"):
            pass
        assert not lock.lost
        storage.write_text(f"{folder}/.lock", "another process")
        deadline = time.monotonic() + 10
        while not lock.lost:
            assert time.monotonic() < deadline
            time.sleep(0.01)
