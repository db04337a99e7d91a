"""A study whose cells are those of `fake_cell.py`: `python fake_study.py SPEC RECORDS OUTPUT` runs it as a command."""

import os
import sys
from pathlib import Path

from fake_cell import FINGERPRINT

from algpt2 import cli
from algpt2.config.tracking import TrackingConfig
from algpt2.studies.folder import opened_study
from algpt2.studies.orders import CellSettings, Orders
from algpt2.studies.results import StudyRecord
from algpt2.studies.runner import Runner
from algpt2.studies.spec import load_spec
from algpt2.studies.study_run import StudyRun

COMMAND = (sys.executable, str(Path(__file__).with_name("fake_cell.py")))


def run_fake_study(spec_path, records, output, only=None, jobs=1, command=COMMAND, **settings):
    """Runs the study, or goes on with it; returns its summary."""
    spec = load_spec(str(spec_path))
    paths = CellSettings((records,), (records,), {}, {}, TrackingConfig(tensorboard=False))
    orders = Orders(spec, paths, str(output))
    record = StudyRecord(spec, orders.records_identity())
    os.environ[FINGERPRINT] = record.records.train_fingerprint
    with opened_study(str(output), record) as results:
        arms = only or tuple(arm.name for arm in spec.arms)
        study = StudyRun(str(output), record, orders, arms, results, **settings)
        Runner(study, jobs, command).run()
    return study.summary()


def main(argv):
    """Prints the summary."""
    cli.print_json(run_fake_study(*argv))
    return cli.EXIT_OK


if __name__ == "__main__":
    cli.run(main)
