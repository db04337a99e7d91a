"""The checks of `--doctor`: each takes the values that it needs, and returns a `Verdict` or raises what is wrong."""

import dataclasses
import os
import uuid
from importlib import metadata
from typing import Any, Generic, TypeVar

from algpt2 import storage
from algpt2.config.cadence import Cadence
from algpt2.config.model import GPTConfig
from algpt2.config.tracking import TrackingConfig
from algpt2.config.training import TrainConfig
from algpt2.devices import wheels
from algpt2.devices.chips import CHIPS, GIB, device_kind_of, peak_flops
from algpt2.errors import UserError
from algpt2.model.sizes import training_flops
from algpt2.preflight.memory_estimate import checkpoint_bytes, replica_bytes
from algpt2.records.record_set import RecordSet
from algpt2.runs.folder import METRICS_NAME, RUN_NAME, compare_run, require_places
from algpt2.runs.plan import Run
from algpt2.storage.local import nearest_existing, room_bytes
from algpt2.tracking.throughput import format_seconds
from algpt2.training.start_checks import StartCheck

OK, WARNING, ERROR = "ok", "warning", "error"
T = TypeVar("T")
PACKAGES = (*wheels.EXTRA_OF_WHEEL, "libtpu", "keras")


@dataclasses.dataclass(frozen=True)
class Verdict(Generic[T]):
    """What a check says: a level, a sentence, and the value that later checks need from it, None if it has none."""

    level: str
    message: str
    value: T | None = None


@dataclasses.dataclass(frozen=True)
class Devices:
    """How many replicas a run would have, and on what kind of device (a key of `chips.CHIPS`), if known.

    strategy: that of TensorFlow which drives them.
    """

    n_replicas: int
    kind: str | None
    strategy: Any = dataclasses.field(default=None, compare=False)


def tensorflow(tpu: str | None) -> Verdict[bool]:
    """Checks that one usable TensorFlow wheel is installed, and that it drives TPUs if one is asked for."""
    wheels.load_tensorflow()
    versions = {name: version_of(name) for name in PACKAGES}
    found = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    if tpu and not versions["tensorflow-tpu"]:
        return Verdict(
            WARNING, f"--tpu needs the tensorflow-tpu wheel, found {found}: run `pip install -e '.[tpu]'`.", True
        )
    return Verdict(OK, found, True)


def devices(tpu: str | None, device_kind: str | None) -> Verdict[Devices]:
    """Checks that the TPU answers. Without one it finds the GPUs or the CPU of this machine."""
    if device_kind is not None:
        peak_flops(1, device_kind)
    import tensorflow as tf

    from algpt2.devices import strategies

    if not tpu and strategies.has_several_workers(os.environ.get("TF_CONFIG")):
        return Verdict(WARNING, "TF_CONFIG names several workers: run --doctor without it, on one of them.")
    strategy = strategies.create_strategy(tpu)
    n_replicas = strategy.num_replicas_in_sync
    gpus = tf.config.list_physical_devices("GPU")
    if tpu:
        kind = device_kind or device_kind_of(os.environ.get("TPU_ACCELERATOR_TYPE"))
        return Verdict(OK, f"TPU {tpu} answers, {n_replicas} cores.", Devices(n_replicas, kind, strategy))
    if gpus:
        name = tf.config.experimental.get_device_details(gpus[0]).get("device_name")
        kind = device_kind or device_kind_of(name)
        return Verdict(OK, f"{len(gpus)} x {name}, {n_replicas} replicas.", Devices(n_replicas, kind, strategy))
    message = "no TPU or GPU, so the CPU trains: give --tpu, or install the extra gpu on a machine with an NVIDIA GPU."
    return Verdict(WARNING, message, Devices(n_replicas, device_kind, strategy))


def model(config: GPTConfig) -> Verdict[GPTConfig]:
    """Describes the model. Its configuration is sound, or there would be none."""
    return Verdict(
        OK, f"{config.model_type}, {config.parameter_count():,} parameters, seq_len {config.seq_len}.", config
    )


def records(record_set: RecordSet) -> Verdict[RecordSet]:
    """Describes records. Opening them has checked that every shard is there and whole."""
    return Verdict(OK, f"{record_set.records:,} records in {record_set.folder}, every shard intact.", record_set)


def validation_records(record_set: RecordSet | None) -> Verdict[RecordSet]:
    """Describes the validation records, and warns where there are none."""
    if record_set is None:
        return Verdict(WARNING, "no --val_path, so the run will not be validated: name a folder of records.")
    return records(record_set)


def training_configuration(config: TrainConfig) -> Verdict[TrainConfig]:
    """Describes the training. Its flags are sound, or there would be no configuration."""
    message = f"{config.total_steps:,} steps of {config.batch_size}, {config.optimizer}, {config.compute_dtype}."
    return Verdict(OK, message, config)


def cadence(periods: Cadence) -> Verdict[Cadence]:
    """Says how often the run logs, validates and saves."""
    every = f"log {periods.log_every_steps}, validation {periods.eval_every_steps}, saving {periods.save_every_steps}"
    return Verdict(OK, f"steps between: {every}; the newest {periods.keep_checkpoints} checkpoints stay.", periods)


def tracking(settings: TrackingConfig) -> Verdict[TrackingConfig]:
    """Says where the figures go."""
    places = [
        METRICS_NAME,
        *([f"TensorBoard ({settings.tensorboard_dir or 'in the run'})"] if settings.tensorboard else []),
    ]
    places += [f"Weights & Biases ({settings.wandb_project})"] if settings.wandb_project else []
    message = f"figures go to {', '.join(places)}; {len(settings.sample_prompt)} prompts are sampled."
    return Verdict(OK, message, settings)


def model_dir(folder: str) -> Verdict[str]:
    """Says where the run's folder is."""
    return Verdict(OK, f"{folder}.", folder)


def start(check: StartCheck, *values: Any) -> Verdict[Any]:
    """Makes a check of those that training makes before it begins."""
    value = check.find(*values)
    return Verdict(OK, check.report.format(value), value)


def agreement(run: Run) -> Verdict[Run]:
    """Says that model, training configuration and records agree, which making the `Run` has checked."""
    return Verdict(OK, "model, records and tokenizer fit together.", run)


def data_paths(run: Run, tpu: str | None) -> Verdict[None]:
    """Checks that the records lie where the devices can read them."""
    from algpt2.devices import strategies

    strategies.require_readable_by_tpu(tpu, run.data_paths())
    return Verdict(OK, "the devices can read them.")


def run_folder_state(run: Run, model_dir: str) -> Verdict[None]:
    """Checks that the folder is new or holds this very run. Another run's is refused, as training would refuse it."""
    require_places(model_dir)
    if not storage.exists(model_dir):
        return Verdict(OK, f"{model_dir} is new: the run starts at step 0.")
    if not storage.exists(storage.join(model_dir, RUN_NAME)):
        raise UserError(
            f"--model_dir must be new, empty or hold this run, and {model_dir} holds other files: name another."
        )
    _, differences = compare_run(model_dir, run.identity)
    if differences:
        return Verdict(OK, f"{model_dir} holds a run that made no step: this one would take its place, from step 0.")
    from algpt2.checkpoints.folder import newest_intact_checkpoint

    newest = newest_intact_checkpoint(model_dir)
    step = newest.step if newest else 0
    return Verdict(
        OK, f"{model_dir} holds this very run: it would resume from step {step} of {run.train_config.total_steps}."
    )


def writing(model_dir: str) -> Verdict[None]:
    """Checks that a small file can be written and deleted in the folder, or where the folder would be made."""
    place = model_dir if storage.is_remote(model_dir) else nearest_existing(model_dir)
    probe = storage.join(place, f".doctor-{uuid.uuid4().hex}")
    try:
        storage.write_text(probe, "")
        storage.of(probe).delete_file(probe)
    except OSError as error:
        raise UserError(
            f"--model_dir must be writable, and {place} is not ({error.strerror}): name another or permit it."
        ) from error
    return Verdict(OK, f"a file could be written and deleted in {place}.")


def disk(run: Run, model_dir: str) -> Verdict[None]:
    """Checks that there is room for the checkpoints that stay and for the one being written."""
    size = checkpoint_bytes(run.model_config, run.train_config)
    for_good = run.cadence.keep_every_steps and run.train_config.total_steps // run.cadence.keep_every_steps
    count = run.cadence.keep_checkpoints + 1 + for_good
    need = f"{count} checkpoints of {_gib(size)} take {_gib(count * size)}"
    if storage.is_remote(model_dir):
        return Verdict(OK, f"{need} of {model_dir}.")
    place, room = nearest_existing(model_dir), room_bytes(model_dir)
    if room < count * size:
        return Verdict(ERROR, f"{need}, and {place} has room for {_gib(room)}: free some or lower --keep_checkpoints.")
    return Verdict(OK, f"{need}; there is room for {_gib(room)}.")


def memory(model: GPTConfig, training_configuration: TrainConfig, micro_batch: int, devices: Devices) -> Verdict[None]:
    """Compares the memory that a replica takes, by an estimate, with what its device has."""
    parts = replica_bytes(model, training_configuration, micro_batch, devices.n_replicas)
    total = sum(parts.values())
    listed = ", ".join(f"{name} {_gib(size)}" for name, size in parts.items())
    message = f"a replica takes about {_gib(total)} (an estimate from above: {listed})"
    if devices.kind is None:
        return Verdict(OK, f"{message}.")
    chip = CHIPS[devices.kind]
    available = chip.memory_bytes // chip.replicas
    if total > available:
        remedy = "raise --accumulation_steps if training runs out of memory"
        return Verdict(WARNING, f"{message}, and one of {devices.kind} has {_gib(available)}: {remedy}.")
    return Verdict(OK, f"{message}; one of {devices.kind} has {_gib(available)}.")


def duration(run: Run, devices: Devices, mfu: float) -> Verdict[None]:
    """Says how many steps, tokens and epochs the run has, and how long it takes at an assumed utilisation."""
    if not 0 < mfu <= 1:
        raise UserError(f"--mfu must be a fraction above 0 and at most 1, received {mfu}.")
    tokens = run.train_config.total_steps * run.tokens_per_step
    epochs = run.describe()["epochs"]
    message = f"{run.train_config.total_steps:,} steps, {tokens:,} tokens, {epochs:.2f} epochs"
    if devices.kind is None:
        return Verdict(OK, f"{message}; for the time, give --device_kind ({', '.join(CHIPS)}).")
    flops = training_flops(tokens, run.model_config, run.train_config)
    seconds = flops / (mfu * peak_flops(devices.n_replicas, devices.kind))
    return Verdict(OK, f"{message}, {format_seconds(seconds)} at {mfu:.0%} of the peak of {devices.kind}.")


def version_of(package: str) -> str | None:
    """Returns the installed version of a package, None if it is missing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _gib(size: float) -> str:
    return f"{size / GIB:.2f} GiB" if size >= GIB else f"{size / 2**20:.1f} MiB"
