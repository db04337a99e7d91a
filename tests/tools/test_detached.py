"""tools/detached.sh: a command that outlives the connection it was started from."""

import os
import signal
import subprocess

import pytest
from places import REPOSITORY

DETACHED = str(REPOSITORY / "tools" / "detached.sh")
WAITS_FOR_THE_GATE = "echo up; read -r status <gate; echo down; exit $status"


@pytest.fixture
def start(tmp_path):
    """Starts the script, as a connection would, around a line of bash."""
    os.mkfifo(tmp_path / "gate")

    def start(command):
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen([DETACHED, "bash", "-c", command], cwd=tmp_path, start_new_session=True, **streams)

    return start


def test_its_output_and_status_are_those_of_the_command(start):
    process = start("echo one; echo two >&2; exit 7")
    assert process.communicate(timeout=60) == ("one\ntwo\n", "")
    assert process.returncode == 7


def test_the_command_goes_on_when_the_connection_breaks_and_the_same_call_joins_it(start, tmp_path):
    broken = start(WAITS_FOR_THE_GATE)
    assert broken.stdout.readline() == "up\n"
    os.killpg(broken.pid, signal.SIGKILL)
    broken.communicate()
    joined = start("echo this must not run")
    assert "joining" in joined.stderr.readline()
    (tmp_path / "gate").write_text("5\n")
    assert joined.communicate(timeout=60)[0] == "up\ndown\n"
    assert joined.returncode == 5


def test_while_it_runs_its_process_id_is_there_to_stop_it_by(start, tmp_path):
    process = start("trap 'exit 75' TERM; echo up; for i in {1..500}; do sleep 0.1; done")
    assert process.stdout.readline() == "up\n"
    os.kill(int((tmp_path / "detached" / "pid").read_text()), signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 75
    assert not (tmp_path / "detached" / "pid").exists()


def test_after_its_end_the_same_call_starts_it_again(start):
    start("exit 1").communicate(timeout=60)
    again = start("echo again")
    assert again.communicate(timeout=60) == ("again\n", "")
    assert again.returncode == 0
