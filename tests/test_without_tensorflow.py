"""Tests of what needs no TensorFlow do not load it, so that one of these files answers in a second or two."""

import itertools
import subprocess
import sys

from places import REPOSITORY

FILES = {
    ".": "absurd_numbers architecture cli_special_files documented_commands interrupts mutants original_flags progress "
    "standard_streams time_limit",
    "checkpoints": "background_writer writer_waits",
    "config": "options seq_len_warmup tracking training",
    "text": "demo_corpus documents tokenizer",
    "records": "manifest",
    "preparation": "packing token_stream",
    "devices": "chips host_memory startup_chatter tpu_pods",
    "docs": "*",
    "evaluation": "example_files scores",
    "model": "sizes",
    "preflight": "batch_search hlo_loops memory_estimate tpu_compiler",
    "runs": "folder plan request vertex_ai",
    "storage": "*",
    "studies": "*",
    "tools": "*",
    "tracking": "comparison metrics report throughput",
    "training": "stop_signals",
}
# A test in each of these takes a moment, and together they use every kind of fixture that has no records.
RUN = "config/test_tracking storage/test_json_files runs/test_plan preparation/test_packing"


def status_of_tests(*arguments):
    """Returns 0 if pytest ends well in a new process and TensorFlow and Keras are not loaded then."""
    program = (
        "import pytest, sys\n"
        "status = pytest.main(sys.argv[1:])\n"
        "loaded = {'tensorflow', 'keras'} & {*sys.modules}\n"
        "sys.exit(f'{loaded} were imported' if loaded else status)\n"
    )
    command = [sys.executable, "-c", program, "-q", "-p", "no:cacheprovider", *arguments]
    outcome = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    return outcome.returncode, (outcome.stdout + outcome.stderr)[-2000:]


def test_these_files_are_collected_without_tensorflow():
    patterns = [f"{room}/test_{name}.py" for room, names in FILES.items() for name in names.split()]
    files = {pattern: sorted((REPOSITORY / "tests").glob(pattern)) for pattern in patterns}
    assert all(files.values()), files
    status, said = status_of_tests("--collect-only", *map(str, itertools.chain(*files.values())))
    assert status == 0, said


def test_tests_of_several_rooms_run_without_it():
    status, said = status_of_tests(*(f"tests/{name}.py" for name in RUN.split()))
    assert status == 0, said
