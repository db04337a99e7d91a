"""A study's cells for TensorBoard's HPARAMS page: what differs between them, and what each came to.

The events are made by the package `tensorboard` (the extra of that name) without TensorFlow.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.studies.comparability import finished
from algpt2.studies.results import CellResult, Study

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary

FOLDER = "tensorboard"
# One file a run, of the same name each time, so that a later report replaces it.
EVENTS_NAME = "events.out.tfevents.0000000001.study"
FILE_VERSION = "brain.Event:2"
METRICS = {
    "validation/bits_per_byte": "val_bits_per_byte",
    "validation/nats_per_token": "val_nats_per_token",
    "speed/tokens_per_second": "tokens_per_second",
}
Settings = dict[str, bool | int | float | str]


def write_hparams(study: Study, folder: str) -> list[str]:
    """Writes event files below `tensorboard/` in a study's folder: a run for each finished cell, and one of all.

    Returns:
      Their paths below the study's folder.

    Raises:
      UserError: the package tensorboard is not installed.
    """
    _require_tensorboard()
    settings = cell_settings(study)
    runs = {"": [_experiment(list(settings.values()))]}
    for one in finished(study):
        runs[one.cell.name] = _session(one, settings[one.cell.name])
    paths = {"/".join(filter(None, [FOLDER, name, EVENTS_NAME])): summaries for name, summaries in runs.items()}
    for path, summaries in paths.items():
        storage.write_bytes(storage.join(folder, path), _event_file(summaries))
    return list(paths)


def cell_settings(study: Study) -> dict[str, Settings]:
    """Returns what tells each finished cell from the others, by the cell's name.

    That is its arm, rate, seed and stage, its parameters, every field of model and training that an arm names, and its
    bugs of 2020 where an arm has some.
    """
    fields = {arm.name: dict(_fields_of_arm(study, arm.name)) for arm in study.spec.arms}
    of_numbers = {name for name in _names(fields) if all(_is_number(of_arm[name]) for of_arm in fields.values())}
    settings = {}
    for one in finished(study):
        of_arm = fields[one.cell.arm]
        settings[one.cell.name] = {
            "arm": one.cell.arm,
            "learning_rate": one.cell.learning_rate,
            "seed": one.cell.seed,
            "stage": one.cell.stage,
            "parameters": one.parameters,
            **{name: value if name in of_numbers else str(value) for name, value in of_arm.items()},
        }
    return settings


def _fields_of_arm(study: Study, name: str) -> Iterator[tuple[str, Any]]:
    """Yields the value that an arm has of each field that any arm names."""
    spec, arm = study.spec, study.spec.arm(name)
    model, training = spec.model_config(arm), spec.train_config(arm, arm.learning_rates[0], seed=0)
    for prefix, config in (("model", model), ("training", training)):
        for field in dict.fromkeys(field for one in spec.arms for field in getattr(one, prefix)):
            yield f"{prefix}.{field}", getattr(config, field)
    if any(one.bugs for one in spec.arms):
        yield "bugs", ", ".join(arm.bugs)


def _names(fields: Mapping[str, Mapping[str, Any]]) -> set[str]:
    return {name for of_arm in fields.values() for name in of_arm}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _experiment(settings: Sequence[Settings]) -> "Summary":
    """Returns the summary that says which settings and metrics the page has."""
    from tensorboard.plugins.hparams import summary_v2 as hp

    values = {name: sorted({one[name] for one in settings}) for name in (settings[0] if settings else ())}
    hparams = [hp.HParam(name, hp.Discrete(distinct)) for name, distinct in values.items()]
    return hp.hparams_config_pb(hparams, [hp.Metric(tag) for tag in METRICS], time_created_secs=0)


def _session(result: CellResult, settings: Settings) -> list["Summary"]:
    """Returns the summaries of one cell's run: its settings, and a point of each metric."""
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import summary_v2 as hp

    figures = {tag: getattr(result, name) for tag, name in METRICS.items()}
    points = [Summary.Value(tag=tag, simple_value=value) for tag, value in figures.items() if value is not None]
    return [hp.hparams_pb(settings, trial_id=result.cell.name, start_time_secs=0), Summary(value=points)]


def _event_file(summaries: Sequence["Summary"]) -> bytes:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    stream = io.BytesIO()
    writer = RecordWriter(stream)
    for event in (Event(file_version=FILE_VERSION), *(Event(summary=summary) for summary in summaries)):
        writer.write(event.SerializeToString())
    return stream.getvalue()


def _require_tensorboard() -> None:
    try:
        import tensorboard.plugins.hparams.summary_v2  # noqa: F401
    except ImportError as error:
        raise UserError(
            "--tensorboard needs the package tensorboard: run `pip install -e '.[tensorboard]'`, or leave the flag out."
        ) from error
