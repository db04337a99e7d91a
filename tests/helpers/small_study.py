"""Folders of studies with made-up results, for the tests of what a study's report says."""

import dataclasses

from algpt2.studies.results import RecordsIdentity, StudyRecord, failed_result, finished_result, read_study
from algpt2.studies.spec import parse_spec

SPEC = """
question = "What does sharing cost?"
decision = "A change is kept if its interval does not contain zero."
tokens = 2_048_000
learning_rates = [1e-3, 3e-3, 1e-2]
selection_seeds = [1]
confirmation_seeds = [11, 12, 13]
[base]
preset = "gpt2-tiny"
training = { batch_size = 16 }
[arms.gpt2]
[arms.shared]
model = { share_layers = true }
[arms.wide]
model = { d_ff = 1024 }
[arms.shared-wide]
model = { d_ff = 1024, share_layers = true }
[[pairs]]
arms = ["shared", "gpt2"]
[[pairs]]
arms = ["wide", "gpt2"]
[[pairs]]
arms = ["shared-wide", "wide"]
[[gaps]]
arm = "shared"
control = "gpt2"
changed = "shared-wide"
changed_control = "wide"
"""
ARMS = ("gpt2", "shared", "wide", "shared-wide")
SEEDS = (11, 12, 13)
# Bits per byte of the confirmation seeds. The rate 3e-3 is the best of every arm.
BITS = {
    "gpt2": (1.85, 1.87, 1.84),
    "shared": (2.07, 2.10, 2.08),
    "wide": (1.86, 1.865, 1.845),
    "shared-wide": (1.95, 1.97, 1.94),
}
WORSE_BY_RATE = {1e-3: 0.2, 3e-3: 0.0, 1e-2: 0.1}
NATS_PER_BIT = 2.4
RECORDS = RecordsIdentity("train", "val", "tokenizer", {"legacy": "other train"})


def bits_of(cell):
    """The loss that a cell came to: the one of `BITS`, or on a selection seed the first of these."""
    place = SEEDS.index(cell.seed) if cell.seed in SEEDS else 0
    return BITS[cell.arm][place] + WORSE_BY_RATE.get(cell.learning_rate, 0.5)


def write_study(folder, spec=SPEC, bits=bits_of, tokens_per_second=lambda cell: 1000.0, change=lambda result: result):
    """Writes a study's folder and returns it as it is read back.

    Args:
      folder: of the study.
      spec: its text.
      bits: what a cell came to; None leaves the cell missing, and a text is the reason why it failed.
      tokens_per_second: of a cell.
      change: what else becomes of a finished cell's result.
    """
    record = StudyRecord(parse_spec(spec), RECORDS)
    record.write(str(folder))
    for _ in range(4):  # results of one stage, or of a grid, say which cells come next
        for result in read_study(str(folder)).results:
            if result.status == "missing":
                _write_cell(str(folder), record, result.cell, bits(result.cell), tokens_per_second, change)
    return read_study(str(folder))


def _write_cell(folder, record, cell, bits, tokens_per_second, change):
    if isinstance(bits, str):
        failed_result(record, cell, bits, diverged=True).write(folder)
    elif bits is not None:
        figures = {
            "tokens_per_second": tokens_per_second(cell),
            "val_loss": bits * NATS_PER_BIT,
            "val_bits_per_byte": bits,
        }
        change(finished_result(record, cell, figures)).write(folder)


def changed(arm, **fields):
    """Returns a `change` for `write_study` that gives the results of an arm other fields."""
    return lambda result: dataclasses.replace(result, **fields) if result.cell.arm == arm else result


def confirmation_seed_missing(arm, seed):
    """Returns `bits` for `write_study` without a cell."""
    return lambda cell: None if (cell.arm, cell.seed) == (arm, seed) else bits_of(cell)
