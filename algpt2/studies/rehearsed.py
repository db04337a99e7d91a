"""The memory that each arm's step takes of a TPU's core, by a compilation without one (`--rehearse`)."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from algpt2 import storage
from algpt2.config.model import GPTConfig
from algpt2.config.training import TrainConfig
from algpt2.devices.chips import GIB
from algpt2.storage import json_files
from algpt2.studies.spec import Arm, Spec

REHEARSED_NAME = "rehearsed.json"


class Rehearsal(Protocol):
    """What a rehearsal says of one step: `algpt2.preflight.rehearsal.Rehearsal`."""

    pod: str
    libtpu: str
    peak_hbm_bytes: int
    fits: bool

    def figures(self) -> dict[str, Any]:
        """Returns all of it as JSON values."""


@dataclasses.dataclass(frozen=True)
class RehearsedPeaks:
    """`rehearsed.json` in a study's folder: what was found for the arms that were rehearsed last.

    Attributes:
      pod: a Cloud TPU accelerator type.
      libtpu: the compiler's version.
      peak_bytes: of one core, by the name of the arm.
    """

    pod: str
    libtpu: str
    peak_bytes: dict[str, int]

    def write(self, output: str) -> None:
        """Writes the file into a study's folder."""
        text = json_files.dumps(dataclasses.asdict(self), indent=2) + "\n"
        storage.write_text(storage.join(output, REHEARSED_NAME), text)


def read_peaks(output: str) -> RehearsedPeaks | None:
    """Returns what was rehearsed in a study's folder, None if nothing was.

    Raises:
      UserError: its file is not what `RehearsedPeaks.write` writes.
    """
    path = storage.join(output, REHEARSED_NAME)
    if not storage.exists(path):
        return None
    with json_files.refusing(path, "be what ablations/run.py --rehearse writes", "delete it"):
        return json_files.build(RehearsedPeaks, json_files.load_object(path))


def rehearse_arms(
    spec: Spec, arms: Iterable[str], rehearse: Callable[[GPTConfig, TrainConfig], Rehearsal]
) -> dict[str, Rehearsal]:
    """Returns what `rehearse` finds for the step of each arm, by the arm's name; its rate and seed change no memory."""
    return {name: rehearse(*_step_of(spec, spec.arm(name))) for name in arms}


def peaks_of(rehearsals: dict[str, Rehearsal]) -> RehearsedPeaks:
    """Returns the peaks of one arm or more."""
    one = next(iter(rehearsals.values()))
    return RehearsedPeaks(one.pod, one.libtpu, {name: found.peak_hbm_bytes for name, found in rehearsals.items()})


def format_peaks(rehearsals: dict[str, Rehearsal]) -> str:
    """Returns a line for each arm, for people."""
    width = max(map(len, rehearsals))
    return "\n".join(
        f"{name.ljust(width)}  {found.peak_hbm_bytes / GIB:6.2f} GiB of a core{'' if found.fits else ': DOES NOT FIT'}"
        for name, found in rehearsals.items()
    )


def _step_of(spec: Spec, arm: Arm) -> tuple[GPTConfig, TrainConfig]:
    return spec.model_config(arm), spec.train_config(arm, arm.learning_rates[0], seed=0)
