"""The image and the jobs that start it: the flags are the trainer's, and what they name is there."""

import math
import re
import runpy
import shlex
import subprocess

import pytest
import setuptools
from command_line import TRAIN
from fake_commands import FakeCommands
from places import REPOSITORY

from algpt2.runs.request import RunRequest

yaml = pytest.importorskip("yaml", reason="needs PyYAML, of the extra dev")
TOOLS = REPOSITORY / "tools"
GKE = yaml.safe_load((TOOLS / "gke-job.yaml").read_text())
VERTEX_AI = yaml.safe_load((TOOLS / "vertex-job.yaml").read_text())
POD = GKE["spec"]["template"]["spec"]
(POOL,) = VERTEX_AI["workerPoolSpecs"]
GKE_FLAGS, VERTEX_AI_FLAGS = POD["containers"][0]["args"], POOL["containerSpec"]["args"]


def without_folder(flags):
    """The flags but --model_dir, which a test would look for on Cloud Storage."""
    return [flag for flag in flags if not flag.startswith("--model_dir=")]


def test_both_jobs_train_alike_and_vertex_ai_names_the_folder_itself():
    assert without_folder(GKE_FLAGS) == VERTEX_AI_FLAGS != GKE_FLAGS
    assert VERTEX_AI["baseOutputDirectory"]["outputUriPrefix"].startswith("gs://")


def test_the_flags_are_the_trainers_and_make_a_run_that_the_chips_can_share(scripts):
    request = RunRequest(scripts[TRAIN]["parse"](VERTEX_AI_FLAGS))
    config, tracking = request.train_config(None), request.tracking()
    assert config.batch_size % (config.accumulation_steps * 8) == 0
    assert (config.compute_dtype, tracking.device_kind, request.model_config().seq_len) == ("bfloat16", "v5e", 1024)


def test_both_jobs_ask_for_one_host_with_all_of_its_chips():
    topology = POD["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    resources = POD["containers"][0]["resources"]
    assert resources["requests"] == resources["limits"] == {"google.com/tpu": math.prod(map(int, topology.split("x")))}
    assert POOL["machineSpec"] == {"machineType": "ct5lp-hightpu-8t", "tpuTopology": topology}
    assert POOL["replicaCount"] == 1


def test_on_gke_a_mistake_fails_the_job_and_a_lost_host_does_not_count():
    """Kubernetes takes the first rule that holds, and needs pods that are not restarted in their place."""
    mistake, lost = GKE["spec"]["podFailurePolicy"]["rules"]
    assert (mistake["action"], mistake["onExitCodes"]) == ("FailJob", {"operator": "In", "values": [2]})
    assert (lost["action"], lost["onPodConditions"]) == ("Ignore", [{"type": "DisruptionTarget"}])
    assert POD["restartPolicy"] == "Never"


def instructions():
    """Returns the Dockerfile as (instruction, arguments), without comments, with continued lines joined."""
    lines = re.sub(r"^#.*\n", "", (TOOLS / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", "")
    return [tuple(line.split(maxsplit=1)) for line in lines.splitlines() if line]


@pytest.fixture
def metadata(monkeypatch):
    """What setup.py says of the package."""
    said = {}
    monkeypatch.setattr(setuptools, "setup", said.update)
    runpy.run_path(str(REPOSITORY / "setup.py"))
    return said


def copied():
    """Returns the files and folders that are copied into the image."""
    return {source for name, rest in instructions() if name == "COPY" for source in rest.split()[:-1]}


def test_all_that_the_image_copies_is_there_and_the_trainer_among_it():
    assert [source for source in copied() if not (REPOSITORY / source).exists()] == []
    assert copied() >= {"algpt2", "recipes", "tools", "setup.py", "README.md", "constraints.txt", "train_tfrecords.py"}


def test_the_image_installs_an_extra_that_there_is_with_the_constraints_on_a_python_that_was_tried(metadata):
    said = dict(instructions())
    assert instructions()[0] == ("FROM", "python:3.11-slim")
    assert "Python 3.11 with the cpu and tpu extras" in (REPOSITORY / "constraints.txt").read_text()
    assert said["ARG"] == "EXTRA=tpu"
    assert {"cpu", "tpu"} <= set(metadata["extras_require"])
    words = shlex.split(said["RUN"])
    assert words[words.index("--constraint") + 1] == "constraints.txt"
    assert words[words.index("--editable") + 1] == ".[${EXTRA}]"


def test_the_image_runs_the_trainer_in_the_loop():
    said = dict(instructions())
    assert said["ENTRYPOINT"] == '["tools/restart.sh", "python", "train_tfrecords.py"]'
    assert said["CMD"] == '["--help"]'


XPK = {"CLUSTER": "my-cluster", "ZONE": "us-west1-c", "PROJECT": "my-project", "IMAGE": "my-image"}


@pytest.fixture
def xpk(tmp_path):
    """Runs tools/xpk.sh with a fake xpk; returns how it ended and what xpk was called with."""
    fakes = FakeCommands(tmp_path / "bin")
    fakes.add("xpk")

    def xpk(*flags, **variables):
        environment = fakes.environment(**{**XPK, **variables})
        ended = subprocess.run([TOOLS / "xpk.sh", *flags], env=environment, capture_output=True, text=True)
        return ended, fakes.calls("xpk")

    return xpk


def test_xpk_runs_the_loop_with_the_flags_as_they_are(xpk):
    flags = ["--sample_prompt", "It's $HOME", "--steps", "3"]
    ended, (call,) = xpk(*flags)
    assert ended.returncode == 0, ended.stderr
    assert call[:2] == ["workload", "create"]
    options = dict(argument.removeprefix("--").split("=", 1) for argument in call[2:])
    assert shlex.split(options.pop("command")) == [
        *["tools/restart.sh", "python", "train_tfrecords.py", "--tpu", "local"],
        *flags,
    ]
    assert options == {
        **{"workload": "algpt2", "cluster": "my-cluster", "zone": "us-west1-c", "project": "my-project"},
        **{"tpu-type": "v5litepod-8", "docker-image": "my-image", "max-restarts": "50"},
        "termination-grace-period-seconds": "120",
    }


@pytest.mark.parametrize("variable", XPK)
def test_xpk_is_not_called_without_a_variable_that_it_needs(xpk, variable):
    ended, calls = xpk(**{variable: ""})
    assert (ended.returncode, calls) == (2, [])
    assert f"error: the environment variable {variable} must be set" in ended.stderr


def test_the_flags_that_the_guide_hands_to_a_tool_are_the_trainers(scripts):
    text = (REPOSITORY / "docs" / "guide" / "tpu.md").read_text().replace("\\\n", " ")
    handed = re.findall(r"tools/(tpu_vm\.sh train|tpu_vm\.sh train-slice|xpk\.sh) (--.*)", text)
    assert {tool for tool, _ in handed} == {"tpu_vm.sh train", "tpu_vm.sh train-slice", "xpk.sh"}
    for _, flags in handed:
        assert scripts[TRAIN]["parse"](shlex.split(flags)).recipe
