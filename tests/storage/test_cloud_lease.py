import itertools
import multiprocessing
import signal
import threading
import time

import pytest

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.storage import cloud_lease
from algpt2.storage.cloud import CloudStorage
from algpt2.storage.cloud_lease import Lease

OTHER = "process 1 on another machine, 0123456789abcdef"
NEVER_RENEWED = 1000.0


@pytest.fixture
def path(bucket, tmp_path):
    return f"{bucket}/{tmp_path.name}/.lock"


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Patience:
    """A clock that goes on only while its owner sleeps, which is over as soon as something else has been done."""

    def __init__(self, meanwhile=lambda: None):
        self.now = 0.0
        self._meanwhile = meanwhile

    def sleep(self, seconds):
        self._meanwhile()
        self.now += seconds

    def lease(self, path):
        """Returns a lease of 90 seconds of this clock."""
        return Lease(path, 90.0, lambda: self.now, self.sleep)


def test_a_holder_that_lives_is_waited_for_and_never_robbed(path):
    with Lease(path, 0.6) as holder:
        first, generations = storage.read_text(path), {CloudStorage().generation(path)}

        def await_renewal():
            wait_until(lambda: CloudStorage().generation(path) not in generations)
            generations.add(CloudStorage().generation(path))

        patience = Patience(await_renewal)
        with pytest.raises(UserError, match=rf"one process at a time .* {first} does in {storage.parent(path)}: wait"):
            patience.lease(path).__enter__()
        assert patience.now == 90.0
        assert storage.read_text(path) == first
        assert not holder.lost


def test_a_holder_that_lets_go_while_it_is_waited_for_is_followed_at_once(path):
    holder = Lease(path, NEVER_RENEWED).__enter__()
    patience = Patience(lambda: holder.__exit__())
    with patience.lease(path):
        assert patience.now == 90.0 / cloud_lease.RENEWALS_PER_LEASE


def test_what_a_dead_holder_left_is_taken_over_after_one_lease_time_and_not_earlier(path):
    storage.write_text(path, OTHER)
    patience = Patience()
    with patience.lease(path) as lease:
        assert patience.now == 90.0
        assert storage.read_text(path) != OTHER
        assert not lease.lost


def hold(path, ready):
    with Lease(path, 0.3):
        ready.set()
        signal.pause()


def test_a_process_that_is_killed_holds_nothing_for_long(path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hold, args=(path, ready))
    process.start()
    assert ready.wait(60)
    process.kill()
    process.join()
    assert storage.exists(path)
    with Lease(path, 0.3):
        assert f"process {process.pid} " not in storage.read_text(path)


@pytest.mark.parametrize("before", [None, OTHER])
def test_of_two_takers_one_wins(path, monkeypatch, before):
    if before:
        storage.write_text(path, before)
    both, calls, write = threading.Barrier(2), itertools.count(), CloudStorage.write_if_generation

    def write_together(self, *arguments):
        if next(calls) < 2:
            both.wait(10)
        return write(self, *arguments)

    def take():
        try:
            leases.append(Lease(path, 0.3).__enter__())
        except UserError as error:
            refusals.append(error)

    monkeypatch.setattr(CloudStorage, "write_if_generation", write_together)
    leases, refusals = [], []
    takers = [threading.Thread(target=take) for _ in range(2)]
    for taker in takers:
        taker.start()
    for taker in takers:
        taker.join()
    assert (len(leases), len(refusals)) == (1, 1)
    assert storage.read_text(path) in str(refusals[0])
    leases[0].__exit__()
    assert not storage.exists(path)


def test_a_lease_that_another_takes_is_lost_and_left_to_it(path):
    with Lease(path, 0.3) as lease:
        assert not lease.lost
        storage.write_text(path, OTHER)
        wait_until(lambda: lease.lost)
    assert storage.read_text(path) == OTHER


def test_a_lease_that_is_deleted_is_lost_and_not_made_again(path):
    """Another process may have held it and let go in the meantime."""
    with Lease(path, 0.3) as lease:
        storage.of(path).delete_file(path)
        wait_until(lambda: lease.lost)
    assert not storage.exists(path)


def test_the_end_deletes_only_what_is_ones_own(path):
    with Lease(path, NEVER_RENEWED):
        assert storage.exists(path)
    assert not storage.exists(path)
    with Lease(path, NEVER_RENEWED) as lease:
        storage.write_text(path, OTHER)
    assert storage.read_text(path) == OTHER
    assert lease.lost


def test_the_deletion_names_the_version_that_it_deletes(path, monkeypatch):
    """The local server does not look at it; Cloud Storage does."""
    from google.cloud.storage import Blob

    named = []
    monkeypatch.setattr(Blob, "delete", lambda self, if_generation_match, **_: named.append(if_generation_match))
    with Lease(path, NEVER_RENEWED):
        pass
    assert named == [CloudStorage().generation(path)]


@pytest.mark.parametrize("answer", ["lost", "refused"])
def test_a_write_whose_answer_got_lost_is_known_as_ones_own(path, monkeypatch, answer):
    """A client that tries such a write again is refused, because the version is now the one that it wrote itself."""
    write, answers = CloudStorage.write_if_generation, []

    def write_unheard(self, *arguments):
        answers.append(write(self, *arguments))
        if answer == "lost" and len(answers) == 2:
            raise ConnectionError("no answer")
        return 0 if answer == "refused" else answers[-1]

    monkeypatch.setattr(CloudStorage, "write_if_generation", write_unheard)
    with Lease(path, 0.3) as lease:
        wait_until(lambda: len(answers) >= 5)
        assert not lease.lost
    assert not storage.exists(path)


def test_a_failing_storage_at_the_end_does_not_hide_how_the_block_ended(path, monkeypatch):
    def fail(*_):
        raise ConnectionError("no network")

    def diverge():
        with Lease(path, NEVER_RENEWED):
            raise RuntimeError("diverged")

    monkeypatch.setattr(CloudStorage, "delete_if_generation", fail)
    with pytest.raises(RuntimeError, match="diverged"):
        diverge()
    assert storage.exists(path)


def test_an_outage_longer_than_a_lease_time_costs_nothing_if_nobody_took_the_folder(cloud, monkeypatch, caplog):
    """Until a renewal has found that it still is its own, it is not certain, and nothing should be written."""
    path = "gs://bucket/run/.lock"
    with Lease(path, 0.6) as lease:
        assert lease.confirmed
        with cloud.failing(), monkeypatch.context() as patch:
            patch.setattr(cloud_lease, "RENEWAL_TIMEOUT_SECONDS", 0.1)
            wait_until(lambda: not lease.confirmed)
            time.sleep(0.6)
            assert not lease.lost
        wait_until(lambda: lease.confirmed)
        assert not lease.lost
    assert not storage.exists(path)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1, "of all the renewals that failed within a minute"
    assert "gs://bucket/run/.lock cannot be renewed" in warnings[0]


def test_the_end_of_a_lease_in_an_outage_is_soon(cloud, monkeypatch):
    monkeypatch.setattr(cloud_lease, "RENEWAL_TIMEOUT_SECONDS", 0.2)
    lease = Lease("gs://bucket/run/.lock", 1.0).__enter__()
    with cloud.failing():
        begin = time.monotonic()
        lease.__exit__()
        assert time.monotonic() - begin < 30, "the client itself would try for 120 s"
