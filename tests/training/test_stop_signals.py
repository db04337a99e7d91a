import signal
import subprocess
import sys
import threading

from interruption import ENDLESS_CALL, ended, started

from algpt2.training.stop_signals import StopSignals

PROGRAM = f"""
{ENDLESS_CALL}
from algpt2 import interrupts
from algpt2.training.stop_signals import StopSignals
with StopSignals(FOLDER), interrupts.temporary(FOLDER + "/.tmp-1"):
    endless_call()
"""


def test_the_first_signal_is_remembered_and_handlers_are_put_back(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals(str(tmp_path)) as stop:
        assert stop.received is None
        signal.raise_signal(signal.SIGTERM)
        assert stop.received == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_run_on_another_thread_leaves_signals_alone(tmp_path):
    before, during = signal.getsignal(signal.SIGTERM), []

    def run():
        with StopSignals(str(tmp_path)):
            during.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert during == [before]


def test_the_user_learns_at_once_that_the_signal_has_come(tmp_path):
    program = (
        "import signal\n"
        "from algpt2 import cli\n"
        "from algpt2.training.stop_signals import StopSignals\n"
        "cli.set_up_logging()\n"
        "with StopSignals('folder'):\n"
        "    signal.raise_signal(signal.SIGINT)\n"
    )
    outcome = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert outcome.returncode == 0
    assert "warning: SIGINT: the run saves after the steps under way" in outcome.stderr


def twice(folder, first, second):
    """Returns how a process ended that got two signals in one call which returns to Python hours later."""
    process = started(PROGRAM.replace("FOLDER", repr(str(folder))))
    process.send_signal(first)
    # Two signals of one kind that the process has not seen yet would be one.
    while "a second signal ends it" not in process.stderr.readline():
        assert process.poll() is None
    return ended(process, second)


def test_a_second_signal_ends_the_process_at_once_and_names_the_last_checkpoint(tmp_path):
    for step, is_committed in ((3, True), (6, True), (9, False)):
        folder = tmp_path / "checkpoints" / f"step_{step:08d}"
        folder.mkdir(parents=True)
        (folder / ("COMMITTED" if is_committed else "config.json")).touch()
    (tmp_path / ".tmp-1").touch()
    status, output, errors = twice(tmp_path, signal.SIGINT, signal.SIGTERM)
    assert (status, output) == (128 + signal.SIGTERM, "")
    last_line = errors.splitlines()[-1]
    assert last_line.startswith("error: a second signal, SIGTERM, ended the run at once: ")
    assert last_line.endswith(f"the same command goes on from its last checkpoint, at step 6, in {tmp_path}.")
    assert not (tmp_path / ".tmp-1").exists()


def test_a_second_sigint_ends_it_with_130_also_where_there_is_no_checkpoint(tmp_path):
    status, _, errors = twice(tmp_path, signal.SIGINT, signal.SIGINT)
    assert status == 130
    assert "no checkpoint in" in errors.splitlines()[-1]
