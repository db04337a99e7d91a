"""A preflight of a training run (`--doctor`): every check, whatever the others find; nothing is trained."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Any

from algpt2 import cli
from algpt2.config.cadence import Cadence
from algpt2.config.model import GPTConfig
from algpt2.config.tracking import TrackingConfig
from algpt2.config.training import TrainConfig
from algpt2.data.record_set import RecordSet
from algpt2.errors import UserError
from algpt2.preflight import doctor_checks
from algpt2.preflight.doctor_checks import ERROR, WARNING, Verdict
from algpt2.runs.plan import Run


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one check came to: 'ok', 'warning' or 'error', and a sentence, with the remedy if there is need of one."""

    check: str
    level: str
    message: str


@dataclasses.dataclass(frozen=True)
class Intent:
    """A run as its command line means it. What can be wrong is a function, called by the check that reports it."""

    model_config: Callable[[], GPTConfig]
    train_records: Callable[[], RecordSet]
    val_records: Callable[[], RecordSet | None]
    train_config: Callable[[RecordSet], TrainConfig]
    cadence: Callable[[], Cadence]
    tracking: Callable[[], TrackingConfig]
    model_dir: str | None
    tpu: str | None
    device_kind: str | None
    mfu: float


class Examination:
    """Runs checks one by one and keeps what they find."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.values: dict[str, Any] = {}

    def check(self, name: str, function: Callable[..., Verdict], *needed: str) -> None:
        """Adds a finding. `function` gets what the checks `needed` found; where one found nothing, it is not called."""
        if missing := [other for other in needed if self.values[other] is None]:
            verdict = Verdict(WARNING, f"not checked: mend {', '.join(missing)} first.")
        else:
            verdict = _verdict_of(function, [self.values[other] for other in needed])
        self.values[name] = verdict.value
        self.findings.append(Finding(name, verdict.level, verdict.message))


def examine(intent: Intent) -> list[Finding]:
    """Returns what every check finds."""
    examination = Examination()
    check = examination.check
    check("tensorflow", lambda: doctor_checks.tensorflow(intent.tpu))
    check("devices", lambda _: doctor_checks.devices(intent.tpu, intent.device_kind), "tensorflow")
    check("model", lambda: doctor_checks.model(intent.model_config()))
    check("training records", lambda: doctor_checks.records(intent.train_records()))
    check("validation records", lambda: doctor_checks.validation_records(intent.val_records()))
    check(
        "training configuration",
        lambda train: doctor_checks.training_configuration(intent.train_config(train)),
        "training records",
    )
    check("cadence", lambda: doctor_checks.cadence(intent.cadence()))
    check("tracking", lambda: doctor_checks.tracking(intent.tracking()))
    check("tokenizer", doctor_checks.tokenizer, "training records")
    val = examination.values["validation records"]
    check(
        "agreement",
        lambda *parts: doctor_checks.agreement(Run(*parts, val_records=val, model_dir=intent.model_dir)),
        *("model", "training configuration", "cadence", "training records"),
    )
    check("data paths", lambda run, _: doctor_checks.data_paths(run, intent.tpu), "agreement", "tensorflow")
    check("batch", doctor_checks.batch, "training configuration", "devices")
    _check_folder(check, intent.model_dir)
    check("memory", doctor_checks.memory, "model", "training configuration", "batch", "devices")
    check("duration", lambda run, found: doctor_checks.duration(run, found, intent.mfu), "agreement", "devices")
    return examination.findings


def report(findings: Sequence[Finding]) -> int:
    """Prints findings, a line each on stderr and as JSON on stdout; returns the exit status."""
    for finding in findings:
        print(f"{finding.level:<8} {finding.check}: {' '.join(finding.message.splitlines())}", file=sys.stderr)
    cli.print_json([dataclasses.asdict(finding) for finding in findings])
    return cli.EXIT_USER_ERROR if any(finding.level == ERROR for finding in findings) else cli.EXIT_OK


def _check_folder(check: Callable[..., None], model_dir: str | None) -> None:
    if not model_dir:
        check("model_dir", doctor_checks.no_model_dir)
        return
    check("model_dir", lambda run, _: doctor_checks.run_folder_state(run, model_dir), "agreement", "tensorflow")
    check("writing", lambda: doctor_checks.writing(model_dir))
    check("disk", lambda run: doctor_checks.disk(run, model_dir), "agreement")


def _verdict_of(function: Callable[..., Verdict], inputs: Sequence[Any]) -> Verdict:
    try:
        return function(*inputs)
    except UserError as error:
        return Verdict(ERROR, str(error))
    except Exception as error:  # a preflight goes on whatever a check meets
        reason = str(error).strip() or "no reason given"
        return Verdict(ERROR, f"{type(error).__name__}: {reason[:300]}; mend that and run --doctor again.")
