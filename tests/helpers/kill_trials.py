"""Starts the processes of `killed_training.py`, forked from one that has imported TensorFlow.

A fork takes milliseconds, where a new process imports TensorFlow for seconds. It is safe because the process that is
forked has not initialised TensorFlow's runtime, which starts threads.
"""

import dataclasses
import json
import multiprocessing
import os
import signal
import statistics
from pathlib import Path

import killed_training
from killed_training import Moment
from tiny_models import ALGPT2_CONFIG
from training_process import final_tensors

from algpt2.checkpoints.folder import MARKER_NAME, checkpoint_step
from algpt2.config.cadence import Cadence
from algpt2.config.training import TrainConfig
from algpt2.records.record_set import open_record_set
from algpt2.runs.plan import Run
from algpt2.tracking.metrics import read_metrics

KILLS = int(os.environ.get("ALGPT2_KILL_TRIALS", "5"))
TIMEOUT_SECONDS = 240
# Checkpoints at steps with log lines: a line is the mean since the one before, and a resumed run begins a new mean.
CADENCE = Cadence(log_every_steps=3, eval_every_steps=9, save_every_steps=6)
MOST_FILE_OPERATIONS = {"start": 25, "save": 120, "end": 110}
TIMINGS = {
    *("tokens_per_second", "seconds_per_step", "input_wait_fraction"),
    *("checkpoint_seconds", "checkpoint_wait_seconds", "failed_checkpoints"),
}


def run_of(records_folder, model_dir, steps, dropout, **train_config):
    """Returns a tiny run that fits the fixture `records_folder`."""
    return Run(
        model_config=dataclasses.replace(ALGPT2_CONFIG, vocab_size=300, n_layer=1, dropout=dropout),
        train_config=TrainConfig(steps, batch_size=4, learning_rate=1e-2, jit_compile=False, **train_config),
        cadence=CADENCE,
        train_records=open_record_set([records_folder], "train"),
        val_records=open_record_set([records_folder], "val"),
        model_dir=str(model_dir),
    )


def start_trial(run, notes_path, moment=None, environment=None):
    """Returns a process that trains, and dies at the moment if one is given."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tensorflow", "algpt2.training.loop"])
    process = context.Process(target=killed_training.main, args=(run, str(notes_path), moment, environment or {}))
    process.start()
    return process


def wait_for_end(process, notes_path, status=0):
    """Waits for the process to end with this status; returns what it logged and what it noted."""
    process.join(TIMEOUT_SECONDS)
    log = Path(f"{notes_path}.log")
    logged = log.read_text() if log.exists() else "nothing was logged"
    try:
        assert process.exitcode == status, logged[-3000:]
    finally:
        process.kill()
    return logged, [json.loads(line) for line in Path(notes_path).read_text().splitlines()]


def draw_moment(rng, kind, notes):
    """Returns a random moment; delays are fractions of what the uninterrupted run, whose notes these are, took."""
    if kind in MOST_FILE_OPERATIONS:
        cut = rng.choice([None, rng.random()])
        return Moment(kind, rng.randint(1, MOST_FILE_OPERATIONS[kind]), cut=cut)
    first, *later = [note[kind] for note in notes if kind in note]
    count = rng.randint(1, 2)
    return Moment(kind, count, delay_seconds=rng.random() * (first if count == 1 else statistics.median(later)))


def newest_committed_step(run):
    """Returns the step of the newest checkpoint with a marker, or 0."""
    markers = Path(run.model_dir).glob(f"checkpoints/*/{MARKER_NAME}")
    return max((checkpoint_step(str(marker.parent)) for marker in markers), default=0)


def wait_for_death(process, notes_path, kind):
    """Waits for a death of this kind; returns where it came, and the step begun from, None if it came before that."""
    _, notes = wait_for_end(process, notes_path, status=-signal.SIGKILL)
    assert notes[-1]["killed"] == kind
    return notes[-1]["where"], next((note["began"] for note in notes if "began" in note), None)


def outcome(run):
    """Returns all that must be the same however often a run was killed: last checkpoint, metrics, other files' names.

    Older checkpoints may differ by one: a kill may come after the last one's marker and before an old one is deleted.
    """
    model_dir, steps = Path(run.model_dir), run.train_config.total_steps
    lines = [{k: v for k, v in line.items() if k not in TIMINGS} for line in read_metrics(run.model_dir)]
    last = list((model_dir / "checkpoints" / f"step_{steps:08d}").iterdir())
    return final_tensors(model_dir, steps), lines, sorted(file.name for file in [*last, *model_dir.iterdir()])
