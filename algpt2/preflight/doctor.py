"""A preflight of a training run (`--doctor`): every check, whatever the others find; nothing is trained."""

import dataclasses
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from algpt2 import cli
from algpt2.devices.chips import device_kind_of
from algpt2.errors import UserError
from algpt2.preflight import doctor_checks
from algpt2.preflight.doctor_checks import ERROR, WARNING, Verdict
from algpt2.records.record_set import RecordSet
from algpt2.runs.plan import Run
from algpt2.runs.request import RunRequest
from algpt2.training.start_checks import START_CHECKS

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one check came to: 'ok', 'warning' or 'error', and a sentence, with the remedy if there is need of one."""

    check: str
    level: str
    message: str


@dataclasses.dataclass(frozen=True)
class Found(Generic[T]):
    """What a check found for the checks after it, None if it found nothing."""

    check: str
    value: T | None

    def of(self, part: Callable[[T], Any]) -> "Found[Any]":
        """Returns a part of what was found."""
        return Found(self.check, None if self.value is None else part(self.value))


class Examination:
    """Runs checks one by one and keeps what they say."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []

    def check(self, name: str, function: Callable[..., Verdict[T]], *needed: Found[Any]) -> Found[T]:
        """Adds a finding; returns what was found.

        Args:
          name: of the check.
          function: the check. It takes the values that are `needed`, and may raise.
          needed: what checks before it found. Where one found nothing, the function is not called.
        """
        if missing := [found.check for found in needed if found.value is None]:
            verdict: Verdict[T] = Verdict(WARNING, f"not checked: mend {', '.join(missing)} first.")
        else:
            verdict = _verdict_of(function, [found.value for found in needed])
        self.findings.append(Finding(name, verdict.level, verdict.message))
        return Found(name, verdict.value)


def examine(request: RunRequest) -> list[Finding]:
    """Returns what every check finds of the run that a command line asks for."""
    flags, examination = request.flags, Examination()
    check = examination.check
    device_kind = getattr(flags, "device_kind", device_kind_of(flags.tpu))
    tensorflow = check("tensorflow", lambda: doctor_checks.tensorflow(flags.tpu))
    devices = check("devices", lambda _: doctor_checks.devices(flags.tpu, device_kind), tensorflow)
    model = check("model", lambda: doctor_checks.model(request.model_config()))
    train = check("training records", lambda: doctor_checks.records(request.train_records()))
    val = check("validation records", lambda: doctor_checks.validation_records(request.val_records()))
    training = check(
        "training configuration",
        lambda records: doctor_checks.training_configuration(request.train_config(records)),
        train,
    )
    cadence = check("cadence", lambda: doctor_checks.cadence(request.cadence()))
    tracking = check("tracking", lambda: doctor_checks.tracking(request.tracking()))
    model_dir = check("model_dir", lambda: doctor_checks.model_dir(request.model_dir))
    run = check(
        "agreement",
        lambda *parts: doctor_checks.agreement(_run_of(request, val.value, model_dir.value, *parts)),
        *(model, training, cadence, train, tracking),
    )
    check("data paths", lambda run, _: doctor_checks.data_paths(run, flags.tpu), run, tensorflow)
    found = {
        **{"model_config": model, "train_config": training, "train_records": train, "tracking": tracking, "run": run},
        **{"model_dir": model_dir, "tensorflow": tensorflow, "strategy": devices.of(lambda one: one.strategy)},
    }
    for start_check in START_CHECKS:
        function = functools.partial(doctor_checks.start, start_check)
        found[start_check.name] = check(start_check.name, function, *(found[name] for name in start_check.needs))
    check("run folder", lambda *parts: doctor_checks.run_folder_state(*parts[:2]), run, model_dir, tensorflow)
    check("writing", doctor_checks.writing, model_dir)
    check("disk", doctor_checks.disk, run, model_dir)
    check("memory", doctor_checks.memory, model, training, found["batch"], devices)
    check("duration", lambda run, found: doctor_checks.duration(run, found, flags.mfu), run, devices)
    return examination.findings


def _run_of(request: RunRequest, val_records: RecordSet | None, model_dir: str | None, *parts: Any) -> Run:
    model, training, cadence, train_records, tracking = parts
    return Run(
        model_config=model,
        train_config=training,
        cadence=cadence,
        train_records=train_records,
        val_records=val_records,
        model_dir=model_dir,
        initial_weights=request.initial_weights(),
        tracking=tracking,
    )


def report(findings: Sequence[Finding]) -> int:
    """Prints findings, a line each on stderr and as JSON on stdout; returns the exit status."""
    for finding in findings:
        print(f"{finding.level:<8} {finding.check}: {' '.join(finding.message.splitlines())}", file=sys.stderr)
    cli.print_json([dataclasses.asdict(finding) for finding in findings])
    return cli.EXIT_USER_ERROR if any(finding.level == ERROR for finding in findings) else cli.EXIT_OK


def _verdict_of(function: Callable[..., Verdict[T]], inputs: Sequence[Any]) -> Verdict[T]:
    try:
        return function(*inputs)
    except UserError as error:
        return Verdict(ERROR, str(error))
    except Exception as error:  # a preflight goes on whatever a check meets
        reason = str(error).strip() or "no reason given"
        return Verdict(ERROR, f"{type(error).__name__}: {reason[:300]}; mend that and run --doctor again.")
