"""tools/tpu_vm.sh against a `gcloud` that keeps its arguments, and that runs what it is to run on a host here."""

import signal
import subprocess

import pytest
from fake_commands import FakeCommands
from places import REPOSITORY

TPU_VM = str(REPOSITORY / "tools" / "tpu_vm.sh")
# The states are lines of a file, of which each question takes one and leaves the last. An empty one is "no such TPU".
GCLOUD = """
answer() {
    read -r state <"$1"
    (($(wc -l <"$1") > 1)) && sed -i 1d "$1"
    [[ -n $state ]] && echo "$state"
}
case "$3 $4" in
    "tpu-vm describe") answer "$HOME/tpu_states" ;;
    "queued-resources describe") answer "$HOME/request_states" ;;
    "tpu-vm ssh") cd "$HOME" && command=${*: -1:1} && exec bash -c "${command#--command=}" ;;
esac
"""
MAKES_A_FAKE_PIP = 'mkdir -p .venv/bin && cp "$(dirname "$0")/pip" .venv/bin/pip'
VARIABLES = {
    "TPU_NAME": "my-tpu",
    "ZONE": "us-central1-a",
    "ACCELERATOR_TYPE": "v5litepod-8",
    "RUNTIME_VERSION": "v2-alpha-tpuv5-lite",
    "REPOSITORY": "https://example.com/a b.git",
    "POLL_SECONDS": "0",
}
PLACE = ["--zone=us-central1-a"]
TPU, REQUEST = ["compute", "tpus", "tpu-vm"], ["compute", "tpus", "queued-resources"]
ASKED = [
    *[*REQUEST, "create", "my-tpu-request", *PLACE, "--node-id=my-tpu", "--accelerator-type=v5litepod-8"],
    *["--runtime-version=v2-alpha-tpuv5-lite", "--spot"],
]
DELETED = [*REQUEST, "delete", "my-tpu-request", *PLACE, "--force", "--quiet"]


@pytest.fixture
def fakes(tmp_path):
    fakes = FakeCommands(tmp_path / "bin")
    fakes.add("gcloud", GCLOUD)
    fakes.add("git", 'mkdir -p "${*: -1:1}"')
    fakes.add("python3", MAKES_A_FAKE_PIP)
    fakes.add("pip")
    return fakes


@pytest.fixture
def tpu_vm(fakes, tmp_path):
    """Runs the script; returns how it ended, and the calls of gcloud that are no questions."""

    def tpu_vm(*arguments, tpu=("READY",), request=("ACTIVE",), **variables):
        (tmp_path / "tpu_states").write_text("".join(f"{state}\n" for state in tpu))
        (tmp_path / "request_states").write_text("".join(f"{state}\n" for state in request))
        environment = fakes.environment(**{**VARIABLES, "HOME": str(tmp_path), **variables})
        ended = subprocess.run([TPU_VM, *arguments], env=environment, capture_output=True, text=True, timeout=120)
        return ended, [call for call in fakes.calls("gcloud") if call[3] != "describe"]

    return tpu_vm


@pytest.mark.parametrize(("spot", "flags"), [("yes", ["--spot"]), ("no", [])])
def test_a_tpu_is_created_at_once_as_spot_unless_told_otherwise(tpu_vm, spot, flags):
    ended, calls = tpu_vm("create", SPOT=spot)
    assert ended.returncode == 0, ended.stderr
    wanted = ["--accelerator-type=v5litepod-8", "--version=v2-alpha-tpuv5-lite", *flags]
    assert calls == [[*TPU, "create", "my-tpu", *PLACE, *wanted]]


@pytest.mark.parametrize(
    ("tpu", "request_states", "expected"),
    [
        (["READY"], [""], []),
        (["", "", "CREATING", "READY"], ["", "WAITING_FOR_RESOURCES", "PROVISIONING"], [ASKED]),
        (["PREEMPTED", "PREEMPTED", "", "READY"], ["ACTIVE", "SUSPENDING", ""], [DELETED, ASKED]),
        (["", "", "READY"], ["SUSPENDED", ""], [DELETED, ASKED]),
        (["REPAIRING", "READY"], ["ACTIVE"], []),
    ],
)
def test_a_request_waits_for_the_tpu_and_replaces_one_that_was_taken_away(tpu_vm, tpu, request_states, expected):
    ended, calls = tpu_vm("request", tpu=tpu, request=request_states)
    assert ended.returncode == 0, ended.stderr
    assert calls == expected


def test_a_request_that_failed_is_the_users_to_mend_and_no_loop_tries_it_again(tpu_vm):
    ended, calls = tpu_vm("request", tpu=[""], request=["FAILED"])
    assert (ended.returncode, calls) == (2, [])
    assert "error: the request my-tpu-request has failed" in ended.stderr


@pytest.mark.parametrize("variable", ["TPU_NAME", "ZONE", "ACCELERATOR_TYPE", "RUNTIME_VERSION", "REPOSITORY"])
def test_a_variable_that_is_missing_is_named_before_anything_is_created(tpu_vm, variable):
    ended, calls = tpu_vm("train", tpu=[""], **{variable: ""})
    assert (ended.returncode, calls) == (2, [])
    assert f"error: the environment variable {variable} must be set" in ended.stderr


def test_every_host_gets_the_repository_and_the_tpu_extra_once(tpu_vm, fakes, tmp_path):
    for _ in range(2):
        ended, calls = tpu_vm("install")
        assert ended.returncode == 0, ended.stderr
    assert {tuple(call[:-1]) for call in calls} == {(*TPU, "ssh", "my-tpu", *PLACE, "--worker=all")}
    assert fakes.calls("git") == [["clone", VARIABLES["REPOSITORY"], "algpt2"]]
    pip = FakeCommands(tmp_path / "algpt2" / ".venv" / "bin")
    assert pip.calls("pip") == [["install", "-c", "constraints.txt", "-e", ".[tpu]"]]


def test_a_command_runs_on_the_hosts_that_are_named(tpu_vm):
    ended, calls = tpu_vm("run", "3", "echo $((1 + 1))", "and more")
    assert (ended.stdout, calls[0][-2]) == ("2 and more\n", "--worker=3")


@pytest.fixture
def installed(tmp_path):
    """A host on which everything is installed, with a trainer that keeps its arguments and ends with status 2."""
    host = tmp_path / "algpt2"
    (host / ".venv" / "bin").mkdir(parents=True)
    (host / ".venv" / "installed").touch()
    (host / "tools").symlink_to(REPOSITORY / "tools")
    python = FakeCommands(host / ".venv" / "bin")
    python.add("python", 'echo "TPU_NAME=$TPU_NAME TPU_LOAD_LIBRARY=$TPU_LOAD_LIBRARY"; exit 2\n')
    return python


FLAGS = ["--recipe", "gpt2-fineweb-edu", "--sample_prompt", "It's $HOME", "two\nlines"]


def test_on_one_host_the_flags_arrive_as_they_are_and_the_trainers_status_comes_back(tpu_vm, installed):
    ended, calls = tpu_vm("train", *FLAGS)
    assert ended.returncode == 2, ended.stderr
    assert installed.calls("python") == [["train_tfrecords.py", "--tpu", "local", *FLAGS]]
    assert calls[-1][-2] == "--worker=0"


def test_on_a_slice_the_first_host_alone_trains_and_does_not_load_the_tpus_library(tpu_vm, installed):
    ended, calls = tpu_vm("train-slice", *FLAGS)
    assert ended.returncode == 2, ended.stderr
    assert installed.calls("python") == [["train_tfrecords.py", "--tpu", "my-tpu", *FLAGS]]
    assert "TPU_NAME=my-tpu TPU_LOAD_LIBRARY=0" in ended.stdout
    assert [call[-2] for call in calls] == ["--worker=all", "--worker=0"]


def test_the_training_on_the_first_host_can_be_stopped(tpu_vm, tmp_path):
    with subprocess.Popen(["sleep", "600"]) as training:
        (tmp_path / "algpt2" / "detached").mkdir(parents=True)
        (tmp_path / "algpt2" / "detached" / "pid").write_text(f"{training.pid}\n")
        ended, calls = tpu_vm("stop")
        assert (ended.returncode, training.wait(60), calls[0][-2]) == (0, -signal.SIGTERM, "--worker=0"), ended.stderr


def test_an_unknown_command_prints_what_there_is(tpu_vm):
    ended, calls = tpu_vm("strat")
    assert (ended.returncode, calls) == (2, [])
    assert "tools/tpu_vm.sh train FLAGS" in ended.stderr
