"""How a script's process ends while TensorFlow still reads records."""

import os
import subprocess
import sys

from places import REPOSITORY

PROGRAM = """
import atexit, logging, os, sys
import tensorflow as tf
from algpt2 import cli

def main(argv):
    global iterator, writer
    iterator = iter(tf.data.TextLineDataset([FILE, PIPE]).prefetch(2))
    next(iterator)
    writer = os.open(PIPE, os.O_WRONLY)  # which waits until TensorFlow has opened the other end
    atexit.register(print, "cleaned up", end="")
    print("a result")
    logging.getLogger("absl").error("a line")
    return 3

FILE, PIPE = sys.argv[1:]
cli.run(main)
"""


def test_a_process_whose_input_pipeline_still_reads_ends_with_its_status_and_all_that_it_wrote(tmp_path):
    """Catches: a process that leaves files or lines behind; `test_cloud_input.py` has one that would not end."""
    (tmp_path / "file").write_text("a line\n")
    os.mkfifo(tmp_path / "pipe")
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "file"), str(tmp_path / "pipe")]
    ended = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stdout) == (3, "a result\ncleaned up")
    assert "error: a line" in ended.stderr
