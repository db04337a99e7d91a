"""`train_tfrecords.py` in a process of its own, with the patience of seconds where a user's run has that of minutes.

The process is forked from one that has imported TensorFlow, as in `kill_trials.py`.
"""

import multiprocessing
import os
import runpy
import signal
import sys
import time

from places import REPOSITORY

from algpt2 import cli

TIMEOUT_SECONDS = 150


class Training:
    """A run of the command line with these flags, and what it has logged so far.

    An operation on Cloud Storage is retried for half a second instead of two minutes, so that an outage of a few
    seconds is longer than that, and than the lease of the run's folder. Its end tries for `end_seconds`.
    """

    def __init__(self, folder, environment, end_seconds, *flags):
        self.log_path, self.output_path = folder / "log", folder / "output"
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tensorflow", "algpt2.training.loop"])
        streams = [str(self.output_path), str(self.log_path)]
        self.process = context.Process(target=main, args=(flags, streams, environment, end_seconds))
        self.process.start()

    @property
    def log(self):
        return self.log_path.read_text() if self.log_path.exists() else ""

    def wait_for(self, text):
        self.wait_until(lambda: text in self.log)

    def wait_until(self, condition):
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not condition():
            assert self.process.is_alive(), self.log[-3000:]
            assert time.monotonic() < deadline, self.log[-3000:]
            time.sleep(0.01)

    def stop(self):
        os.kill(self.process.pid, signal.SIGTERM)

    def finish(self, status=0):
        """Waits for the end; returns what was printed."""
        self.process.join(TIMEOUT_SECONDS)
        assert self.process.exitcode == status, self.log[-3000:]
        assert "Traceback" not in self.log
        return self.output_path.read_text()

    def last_line(self):
        return self.log.splitlines()[-1]

    def warnings(self):
        return [line.split(" warning: ")[1] for line in self.log.splitlines() if " warning: " in line]


def main(flags, streams, environment, end_seconds):
    """What the process does."""
    for number, path in enumerate(streams, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.update(environment)
    _lose_patience(end_seconds)
    sys.argv[1:] = flags
    cli.run(runpy.run_path(str(REPOSITORY / "train_tfrecords.py"))["main"])


def _lose_patience(end_seconds):
    from algpt2.checkpoints import background_writer
    from algpt2.storage import cloud_lease, publisher
    from algpt2.training import run_files

    publisher.ATTEMPT_SECONDS = background_writer.ATTEMPT_SECONDS = 0.5
    publisher.LONGEST_PAUSE_SECONDS = 1.0
    cloud_lease.LEASE_SECONDS = 3.0
    cloud_lease.RENEWAL_TIMEOUT_SECONDS = 2.0
    run_files.END_SECONDS = run_files.STOP_SECONDS = end_seconds
    run_files.LAST_SECONDS = 1.0
