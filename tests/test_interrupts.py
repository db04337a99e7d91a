"""SIGINT: one line, status 130, nothing half done left, whatever the command does at that moment."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import GENERATE, TRAIN
from interruption import BEGUN, ENDLESS_CALL, ended, interrupted_at_import, started
from places import REPOSITORY
from training_process import write_config

LINE = "error: interrupted\n"
SCRIPTS = sorted(
    str(file.relative_to(REPOSITORY))
    for folder in (".", "data_tools", "eval", "ablations", "docs/reference")
    for file in (REPOSITORY / folder).glob("*.py")
    if "cli.run(main)" in file.read_text()
)
BEGIN = f"import os, signal, sys, time\nfrom algpt2 import interrupts\ninterrupts.begin()\n{ENDLESS_CALL}\n"
SAY_BEGUN = f"print({BEGUN.strip()!r}, flush=True)"


def program(body):
    return BEGIN + body.replace("SAY_BEGUN", SAY_BEGUN)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_that_still_imports_is_ended_with_one_line(script, tmp_path):
    outcome = interrupted_at_import("argparse", [REPOSITORY / script], tmp_path)
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (130, "", LINE)


def test_so_is_one_that_imports_tensorflow(tmp_path):
    command = [REPOSITORY / GENERATE, "--checkpoint", tmp_path]
    outcome = interrupted_at_import("tensorflow.python.framework.ops", command, tmp_path)
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (130, "", LINE)


def test_so_is_training_before_its_loop_and_nothing_is_written(records_folder, tmp_path):
    config_path = write_config(tmp_path / "config.json")
    flags = ("--train_path", records_folder, "--config_path", config_path, "--model_dir", tmp_path / "out")
    command = [REPOSITORY / TRAIN, *flags, "--steps", 1, "--batch_size", 2]
    outcome = interrupted_at_import("algpt2.training.loop", command, tmp_path)
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (130, "", LINE)
    assert not (tmp_path / "out").exists()


def test_a_call_that_does_not_return_to_python_is_ended_without_its_temporary_files(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "below").touch()
    process = started(
        program(
            "def main():\n"
            f"    with interrupts.temporary({str(tmp_path / 'file')!r}):\n"
            f"        with interrupts.temporary({str(tmp_path / 'folder')!r}):\n"
            "            endless_call()\n"
            "interrupts.cleaned_up(main)\n"
        )
    )
    assert ended(process) == (130, "", LINE)
    assert list(tmp_path.iterdir()) == []


def test_a_library_that_swallows_every_exception_is_ended():
    process = started(
        program(
            "def main():\n"
            "    while True:\n"
            "        try:\n"
            "            SAY_BEGUN\n"
            "            time.sleep(60)\n"
            "        except BaseException:\n"
            "            print('an error of its own', file=sys.stderr)\n"
            "interrupts.cleaned_up(main)\n"
        )
    )
    assert ended(process) == (130, BEGUN, LINE), "it went on, and was ended"


def test_what_the_block_cleans_up_is_clean_and_a_second_signal_does_not_cut_it_short(tmp_path):
    process = started(
        program(
            "def main():\n"
            "    try:\n"
            "        SAY_BEGUN\n"
            "        time.sleep(60)\n"
            "    finally:\n"
            "        os.kill(os.getpid(), signal.SIGINT)\n"
            "        print('cleaning', file=sys.stderr)\n"
            f"        open({str(tmp_path / 'cleaned')!r}, 'w').close()\n"
            "        raise RuntimeError('an exception of the cleaning')\n"
            "interrupts.cleaned_up(main)\n"
        )
    )
    assert ended(process) == (130, "", LINE)
    assert (tmp_path / "cleaned").exists()


def test_a_bar_of_progress_does_not_share_its_line():
    process = started(
        program(
            "from algpt2.progress import progress_bar\n"
            "def main():\n"
            "    with progress_bar('reading', 'B', 100):\n"
            "        SAY_BEGUN\n"
            "        time.sleep(60)\n"
            "interrupts.cleaned_up(main)\n"
        )
    )
    status, _, errors = ended(process)
    assert status == 130
    assert errors.splitlines()[-1] + "\n" == LINE
    assert "reading:   0%" in errors.splitlines()[-2]


def test_a_reader_of_stderr_that_reads_nothing_does_not_keep_the_process():
    process = started(
        program(
            "def main():\n"
            "    os.set_blocking(2, False)\n"
            "    while True:\n"
            "        try:\n"
            "            os.write(2, b'.' * 4096)\n"
            "        except BlockingIOError:\n"
            "            break\n"
            "    os.set_blocking(2, True)\n"
            "    endless_call()\n"
            "interrupts.cleaned_up(main)\n"
        )
    )
    process.send_signal(signal.SIGINT)
    try:
        assert process.wait(timeout=30) == 130
    finally:
        process.kill()
        process.communicate()


def test_where_sigint_is_ignored_it_stays_so():
    """As in a shell script's background jobs, which Ctrl-C at the terminal must not reach."""
    source = program("os.kill(os.getpid(), signal.SIGINT)\nprint('goes on')")
    arguments = [sys.executable, "-c", source]
    ignoring = f"import os, signal; signal.signal(2, signal.SIG_IGN); os.execv({arguments[0]!r}, {arguments})"
    outcome = subprocess.run([sys.executable, "-c", ignoring], capture_output=True, text=True, timeout=60)
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "goes on\n", "")


def children_of(pid):
    """Returns the numbers of a process's children."""
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return {int(child) for file in threads for child in file.read_text().split()}


def leaves_sigint_alone(pid):
    """Returns whether a process blocks or ignores SIGINT."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return (int(lines["SigBlk"], 16) | int(lines["SigIgn"], 16)) >> (signal.SIGINT - 1) & 1


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_ctrl_c_at_a_terminal_leaves_no_worker_and_no_traceback_of_one(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from algpt2 import cli\n"
        "from algpt2.text.demo_corpus import collect\n"
        "if __name__ == '__main__':\n"
        f"    cli.run(lambda arguments: collect([{__file__!r}] * 50_000))\n"
    )
    errors = {"stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    process = subprocess.Popen([sys.executable, str(script)], **errors)
    deadline = time.monotonic() + 60
    while len(children_of(process.pid)) < 2:  # one tracks resources, the others are workers
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert all(leaves_sigint_alone(child) for child in children_of(process.pid))
    os.killpg(process.pid, signal.SIGINT)
    # Every process of the group has stderr open, so its end comes once all of them are gone.
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] + "\n" == LINE
    assert "Traceback" not in said
