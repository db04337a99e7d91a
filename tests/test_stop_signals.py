import os
import signal
import subprocess
import sys

from training_process import final_tensors, finish, start, wait_for_new_checkpoint, write_config

from algpt2.stop_signals import StopSignals

STEPS = 600
FLAGS = ("--save_every_steps", "60", "--log_every_steps", "10")


def test_sigterm_saves_says_so_and_the_resumed_run_ends_bit_identical(records_folder, tmp_path):
    config_path = write_config(tmp_path / "config.json", dropout=0.1)
    uninterrupted, stopped = tmp_path / "uninterrupted", tmp_path / "stopped"
    finish(start(records_folder, uninterrupted, config_path, STEPS, *FLAGS))
    process = start(records_folder, stopped, config_path, STEPS, *FLAGS)
    wait_for_new_checkpoint(process, stopped)
    process.send_signal(signal.SIGTERM)
    _, errors = finish(process, status=75)
    assert "error: SIGTERM stopped the run after step" in errors.splitlines()[-1]
    saved = errors.splitlines()[-1].split("after step ")[1].split(" ")[0]
    assert (stopped / "checkpoints" / f"step_{int(saved):08d}" / "COMMITTED").exists()
    _, errors = finish(start(records_folder, stopped, config_path, STEPS, *FLAGS))
    assert f"step_{int(saved):08d}" in errors
    assert final_tensors(stopped, STEPS) == final_tensors(uninterrupted, STEPS)


def test_the_first_signal_is_remembered_and_handlers_are_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as stop:
        assert stop.received is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.received == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_second_signal_ends_the_process_at_once():
    program = (
        "import os, signal\n"
        "from algpt2.stop_signals import StopSignals\n"
        "with StopSignals():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('still here', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('not reached', flush=True)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stdout) == (128 + signal.SIGTERM, "still here\n")
