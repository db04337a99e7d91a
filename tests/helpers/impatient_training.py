"""`train_tfrecords.py` with the patience of seconds where a user's run has that of minutes; a process of its own.

    python impatient_training.py END_SECONDS <flags of train_tfrecords.py>

An operation on Cloud Storage is retried for half a second instead of two minutes, so that an outage of a few seconds
is longer than that, and than the lease of the run's folder.
"""

import runpy
import sys

from places import REPOSITORY

from algpt2.storage import cloud_lease, publisher
from algpt2.training import run_files

publisher.ATTEMPT_SECONDS = 0.5
publisher.LONGEST_PAUSE_SECONDS = 1.0
cloud_lease.LEASE_SECONDS = 2.0
cloud_lease.RENEWAL_TIMEOUT_SECONDS = 0.5
run_files.END_SECONDS = run_files.STOP_SECONDS = float(sys.argv[1])
run_files.LAST_SECONDS = 1.0
sys.argv[1:2] = []
runpy.run_path(str(REPOSITORY / "train_tfrecords.py"), run_name="__main__")
