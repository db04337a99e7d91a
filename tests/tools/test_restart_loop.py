"""tools/restart.sh: which ends of the trainer it answers with another start, and when."""

import signal
import subprocess

import pytest
from fake_commands import FakeCommands
from places import REPOSITORY

LOOP = str(REPOSITORY / "tools" / "restart.sh")
# Ends with the first of the statuses in a file, which it takes away; 137 is what a kill leaves.
ENDS_AS_TOLD = """
read -r status <statuses && sed -i 1d statuses
[[ $status == 137 ]] && kill -KILL $$
exit "$status"
"""
SAVES_WHEN_STOPPED = "trap 'echo saved; exit 75' TERM; echo up; for i in {1..500}; do sleep 0.1; done"


@pytest.fixture
def fakes(tmp_path):
    return FakeCommands(tmp_path / "bin")


@pytest.fixture
def loop(fakes, tmp_path):
    """Runs the loop around a trainer that ends with these statuses; returns its status, its waits and the tries."""
    fakes.add("trainer", ENDS_AS_TOLD)
    fakes.add("sleep")

    def loop(*statuses, **variables):
        (tmp_path / "statuses").write_text("".join(f"{status}\n" for status in statuses))
        command = [LOOP, "trainer", "--sample_prompt", "two words"]
        ended = subprocess.run(command, cwd=tmp_path, env=fakes.environment(**variables), capture_output=True)
        return ended.returncode, [int(call[0]) for call in fakes.calls("sleep")], fakes.calls("trainer")

    return loop


@pytest.mark.parametrize("statuses", [[75, 1, 137, 0], [130, 143, 2], [0], [2]])
def test_it_starts_the_command_again_until_it_has_finished_or_cannot(loop, statuses):
    status, waits, tries = loop(*statuses)
    assert status == statuses[-1]
    assert tries == [["--sample_prompt", "two words"]] * len(statuses)
    assert len(waits) == len(statuses) - 1


def test_quick_failures_are_tried_again_ever_later_up_to_a_limit(loop):
    assert loop(1, 137, 1, 1, 0, RESTART_SECONDS="10", RESTART_MOST_SECONDS="30")[1] == [10, 20, 30, 30]


def test_a_run_that_saved_or_lasted_long_makes_the_wait_short_again(loop, fakes):
    assert loop(1, 1, 75, 1, 0, RESTART_SECONDS="10")[1] == [10, 20, 10, 20]
    assert loop(1, 1, 1, 0, RESTART_SECONDS="10", RESTART_HEALTHY_SECONDS="0")[1][4:] == [10, 10, 10]


def begun(command, stream, line, **variables):
    """Starts the loop in a session of its own, and returns it once that line is on one of its streams."""
    process = subprocess.Popen(
        [LOOP, "bash", "-c", command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": "/usr/bin:/bin", **variables},
        start_new_session=True,
    )
    while line not in (found := getattr(process, stream).readline()):
        assert found, "the loop has ended"
    return process


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_loop_reaches_the_command_once_and_ends_both(sent):
    process = begun(SAVES_WHEN_STOPPED, "stdout", "up")
    process.send_signal(sent)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (75, "saved\n")
    assert "again in" not in errors


def test_a_signal_between_two_tries_ends_the_wait_with_the_last_status():
    process = begun("exit 3", "stderr", "again in 1000 s", RESTART_SECONDS="1000", RESTART_MOST_SECONDS="1000")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 3


def test_without_a_command_it_says_so():
    ended = subprocess.run([LOOP], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: restart.sh needs the command")
