"""How a script's process ends while TensorFlow still reads records."""

import subprocess
import sys

from places import REPOSITORY

PROGRAM = """
import atexit, logging, sys, threading
import tensorflow as tf
from algpt2 import cli

def read(index):
    if index:
        is_reading.set()
        threading.Event().wait()
    return index

def main(argv):
    global iterator
    iterator = iter(tf.data.Dataset.range(2).map(lambda i: tf.py_function(read, [i], tf.int64)).prefetch(2))
    next(iterator)
    is_reading.wait()
    atexit.register(print, "cleaned up", end="")
    print("a result")
    logging.getLogger("absl").error("a line")
    return 3

is_reading = threading.Event()
cli.run(main)
"""


def test_a_process_whose_input_pipeline_still_reads_ends_with_its_status_and_all_that_it_wrote():
    """Catches: a process that lives as long as TensorFlow tries to read, and one that leaves files or lines behind."""
    ended = subprocess.run([sys.executable, "-c", PROGRAM], cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (3, "a result\ncleaned up")
    assert "error: a line" in ended.stderr
