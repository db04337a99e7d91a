"""Fixtures shared by the tests. Two logical CPU devices stand in for the cores of an accelerator."""

import gc
import json
import logging
import os
import resource
import runpy
import sys

import cloud_server
import faulty_cloud
import numpy as np
import pytest
import wrapt
from command_line import (
    CONFIGS,
    EVALUATE,
    GENERATE,
    GOOD,
    INSPECT,
    RECORDS,
    TOKENIZER,
    TRAIN,
    WORDS,
    Outcome,
    call,
    to_arguments,
)
from places import REPOSITORY
from tiny_models import ALGPT2_CONFIG, GPT2_CONFIG

from algpt2.config.model import GPTConfig
from algpt2.devices import wheels

wheels.require_tensorflow()
# With libtpu installed (extra rehearsal), JAX would look for a TPU when a test imports it.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Hugging Face's libraries and lm-evaluation-harness would look for newer files on the web.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# Several processes share the cores, here and in what they start: with more threads than one, they wait for each other.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
# Tracing makes millions of objects that stay, and Python would spend a tenth of the time on searching them for garbage.
gc.set_threshold(50_000, 10, 10)
MOST_GROWTH_KILOBYTES = 1 << 19

# Scripts run as subprocesses import the package from this checkout, installed or not.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))

LONG_TIMEOUT_SECONDS = 600

# Files whose tests run in one process of `pytest -n`, by what each process would make anew otherwise. The tests of any
# other file run in one process, too. These groups are started first, in this order.
GROUPS = {
    # A process that has imported TensorFlow, from which others are forked; two of them, because both take minutes.
    "forks": "test_resume test_outage",
    "forked workers": "test_workers",
    # Traced steps of equal settings (tests/helpers/shared_steps.py): by themselves, and of whole runs.
    "steps": "test_step test_sharded_state test_weighted_targets test_input_outage",
    "runs": "test_loop test_run_checkpoints test_last_writes test_evaluations test_resumed_initial_weights "
    "test_run_order test_watched_benchmarks test_wandb_log test_tensorboard test_run_log",
    # Every tool's output, of the fixture `pipeline`.
    "pipeline": "test_cli_processes test_cli test_cli_errors test_cli_special_files test_cli_cloud_errors "
    "test_absurd_numbers test_full_disk test_generate test_original_flags test_text_scripts test_longer_text "
    "test_zero_shot_commands test_request test_start_checks test_long_rows test_averaging test_opened test_convert",
    # PyTorch and what stands on it, imported for half a minute.
    "peers": "test_beside_lm_eval test_harness_reference test_documented_loop test_to_huggingface "
    "test_from_huggingface test_huggingface_config test_huggingface test_to_keras_hub test_windows test_sampling "
    "test_wikitext test_generation test_benchmarks",
}
GROUP_OF_FILE = {file: group for group, files in GROUPS.items() for file in files.split()}

# Minutes of compilations, in tests that share nothing and may run in several processes.
SPREAD = ("test_rehearsal", "test_rematerialisation")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Puts the longest files first, with more time than pyproject.toml gives."""
    first = [*GROUPS, "spread"]
    place_of = {file: first.index(group) for file, group in GROUP_OF_FILE.items()}
    place_of |= dict.fromkeys(SPREAD, first.index("spread"))
    items.sort(key=lambda item: place_of.get(item.path.stem, len(first)))
    for item in items:
        if item.path.stem in place_of and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(LONG_TIMEOUT_SECONDS))
        if "pipeline" in item.fixturenames and GROUP_OF_FILE.get(item.path.stem) != "pipeline":
            raise pytest.UsageError(f"{item.path.name} has tests with the fixture `pipeline`: add it to that group.")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Gives a process all tests of a group or file, in the order of collection, under `pytest -n 3 --dist loadgroup`.

    The marks that pytest-xdist 3.8 has for this do nothing with pytest 9.2, whose tests keep their names.
    """
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            stem = file.rpartition("/")[2].removesuffix(".py")
            return nodeid if stem in SPREAD else GROUP_OF_FILE.get(stem, file)

    config.option.loadscopereorder = False
    return Groups(config, log)


@wrapt.when_imported("tensorflow")
def split_cpu(tf):
    """Makes two devices of the CPU as soon as a test imports TensorFlow, before its first operation fixes them.

    Tests that need no TensorFlow do not wait for its import. Graphs are run as they are traced: to optimize one takes
    longer than all its calls in a test, and scripts that run as processes of their own do it, as a user's do.
    """
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


@pytest.fixture(autouse=True, scope="module")
def without_garbage():
    """Frees what a file's tests have traced where it is much: a process has the tests of many files."""
    before = peak_kilobytes()
    yield
    if peak_kilobytes() - before > MOST_GROWTH_KILOBYTES:
        gc.collect()


def peak_kilobytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item, nextitem):
    """Forgets the traced steps when the process has come to the end of their group."""
    group = GROUP_OF_FILE.get(item.path.stem)
    is_last = nextitem is None or GROUP_OF_FILE.get(nextitem.path.stem) != group
    if group in ("steps", "runs") and is_last and "shared_steps" in sys.modules:
        sys.modules["shared_steps"].forget()


@pytest.fixture(params=[GPT2_CONFIG, ALGPT2_CONFIG], ids=["gpt2", "algpt2"])
def tiny_config(request) -> GPTConfig:
    """A tiny model of each kind, without dropout."""
    return request.param


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def bucket():
    """The path of a bucket on a Cloud Storage server on this machine."""
    with cloud_server.running() as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", address)
        from algpt2.storage import cloud

        cloud.gcs_client.cache_clear()
        cloud.gcs_client().create_bucket("bucket")
        yield "gs://bucket"
        cloud.gcs_client.cache_clear()


@pytest.fixture
def cloud(tmp_path, monkeypatch):
    """A Cloud Storage server that fails on demand, with the bucket `gs://bucket`; this process's client goes there."""
    with faulty_cloud.running(tmp_path) as cloud:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", cloud.address)
        from algpt2.storage.cloud import gcs_client

        gcs_client.cache_clear()
        gcs_client().create_bucket("bucket")
        yield cloud
        gcs_client.cache_clear()


@pytest.fixture(autouse=True)
def every_log_line():
    """Lets a test see every line of our log: TensorFlow's converters leave absl's logger at warnings from then on."""
    logging.getLogger("absl").setLevel(logging.NOTSET)


@pytest.fixture
def no_cloud(monkeypatch):
    """No Cloud Storage server; the client that looks for it ends with the test, because other tests have a server."""
    from algpt2.storage.cloud import gcs_client

    with monkeypatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", "http://localhost:1")
        gcs_client.cache_clear()
        yield
        gcs_client.cache_clear()


@pytest.fixture
def publisher():
    """What writes a run's files in the background."""
    from algpt2.storage.deadline import Deadline
    from algpt2.storage.publisher import Publisher

    publisher = Publisher("a test's publisher")
    yield publisher
    publisher.close(Deadline(0))


@pytest.fixture(scope="session")
def records_folder(tmp_path_factory) -> str:
    """TFRecords of a small corpus: vocabulary 300, seq_len 16, 3 train shards, 1 val shard. Read only."""
    from algpt2.config.records import RecordOptions
    from algpt2.preparation.preparation import make_tfrecords
    from algpt2.text.tokenizer_training import train_tokenizer

    folder = tmp_path_factory.mktemp("corpus")
    words = np.random.default_rng(0).choice(["alpha", "beta", "gamma", "delta", "epsilon", "zeta"], size=(150, 12))
    lines = [json.dumps({"text": " ".join(document)}) for document in words]
    (folder / "corpus.jsonl").write_text("\n".join(lines) + "\n")
    train_tokenizer([str(folder / "corpus.jsonl")], 300, str(folder / "tokenizer"))
    options = RecordOptions(seq_len=16, num_shards=3, val_fraction=0.2)
    make_tfrecords([str(folder / "corpus.jsonl")], str(folder / "tokenizer"), str(folder / "records"), options)
    return str(folder / "records")


@pytest.fixture(scope="session")
def scripts():
    """The globals of every script, loaded as Python would run it, but for its last line."""
    folders = ("data_tools", "eval", "ablations", "benchmarks", "docs/reference")
    files = [
        REPOSITORY / TRAIN,
        REPOSITORY / GENERATE,
        *(file for one in folders for file in REPOSITORY.glob(f"{one}/*.py")),
    ]
    files = [file for file in files if "cli.run(main)" in file.read_text()]
    return {str(file.relative_to(REPOSITORY)): runpy.run_path(str(file)) for file in files}


@pytest.fixture(scope="session")
def run_script(scripts):
    """Calls a script with the flags of `GOOD` and some changes to them; None leaves a flag out."""

    def run_script(script, places, **changes) -> Outcome:
        return call(scripts[script]["main"], to_arguments({**GOOD[script], **changes}, places))

    return run_script


@pytest.fixture(scope="session")
def pipeline(run_script, tmp_path_factory):
    """Every tool once, from text to scores: the folder with all that came out, and what each command printed."""
    good = tmp_path_factory.mktemp("good")
    documents = np.random.default_rng(0).choice(WORDS, size=(150, 12))
    lines = [json.dumps({"text": " ".join(document)}) + "\n" for document in documents]
    (good / "corpus.jsonl").write_text("".join(lines[:140]))
    (good / "heldout.txt").write_text("\n".join(json.loads(line)["text"] for line in lines[140:]))
    for name, fields in CONFIGS.items():
        (good / f"{name}.json").write_text(json.dumps(fields))

    def step(script, out, **changes):
        return run_script(script, {"good": good, "out": good / out}, **changes)

    outcomes = {
        "tokenizer": step(TOKENIZER, "tokenizer"),
        "records": step(RECORDS, "records"),
        "inspection": step(INSPECT, ""),
        "gpt2": step(TRAIN, "gpt2", config_path="{good}/gpt2.json"),
        "algpt2": step(TRAIN, "algpt2"),
    }
    for name in CONFIGS:
        outcomes[f"{name}_raw"] = step(EVALUATE, "", checkpoint=f"{{good}}/{name}", protocol="raw")
        (good / f"{name}.evaluation.json").write_text(outcomes[f"{name}_raw"].stdout)
    return good, outcomes


@pytest.fixture(scope="session")
def good(pipeline):
    """The folder with sound input and output of every kind. Read only."""
    return pipeline[0]


@pytest.fixture(scope="session")
def outcomes(pipeline):
    """What each command that made `good` printed, by a name for it."""
    return pipeline[1]
