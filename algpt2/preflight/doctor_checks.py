"""The checks of `--doctor`. Each returns a `Verdict` or raises what is wrong; none depends on another having passed."""

import dataclasses
import os
import shutil
import uuid
from importlib import metadata
from typing import Any

from algpt2 import storage
from algpt2.config.cadence import Cadence
from algpt2.config.model import GPTConfig
from algpt2.config.tracking import TrackingConfig
from algpt2.config.training import TrainConfig
from algpt2.data.record_set import RecordSet, load_tokenizer
from algpt2.devices import wheels
from algpt2.devices.chips import CHIPS, GIB, device_kind_of, peak_flops
from algpt2.errors import UserError
from algpt2.model.sizes import training_flops_per_token
from algpt2.preflight.memory_estimate import checkpoint_bytes, replica_bytes
from algpt2.runs.folder import METRICS_NAME, RUN_NAME, claim_run_folder
from algpt2.runs.plan import Run
from algpt2.tracking import wandb_log
from algpt2.tracking.throughput import format_seconds

OK, WARNING, ERROR = "ok", "warning", "error"
PACKAGES = (*wheels.EXTRA_OF_WHEEL, "libtpu", "keras")


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A level, a sentence, and what later checks need from this one."""

    level: str
    message: str
    value: Any = None


@dataclasses.dataclass(frozen=True)
class Devices:
    """How many replicas a run would have, and on what kind of device (a key of `flops.CHIPS`), if known."""

    n_replicas: int
    kind: str | None


def tensorflow(tpu: str | None) -> Verdict:
    """Exactly one usable TensorFlow wheel, and the one that drives TPUs if one is asked for."""
    wheels.load_tensorflow()
    versions = {name: _version(name) for name in PACKAGES}
    found = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    if tpu and not versions["tensorflow-tpu"]:
        return Verdict(
            WARNING, f"--tpu needs the tensorflow-tpu wheel, found {found}: run `pip install -e '.[tpu]'`.", True
        )
    return Verdict(OK, found, True)


def devices(tpu: str | None, device_kind: str | None) -> Verdict:
    """The TPU can be reached, or which devices take its place."""
    if device_kind is not None:
        peak_flops(1, device_kind)
    if os.environ.get("TF_CONFIG") and not tpu:
        return Verdict(WARNING, "TF_CONFIG names several workers: run --doctor without it, on one of them.")
    import tensorflow as tf

    from algpt2.devices import strategies

    n_replicas = strategies.create_strategy(tpu).num_replicas_in_sync
    gpus = tf.config.list_physical_devices("GPU")
    if tpu:
        kind = device_kind or device_kind_of(os.environ.get("TPU_ACCELERATOR_TYPE"))
        return Verdict(OK, f"TPU {tpu} answers, {n_replicas} cores.", Devices(n_replicas, kind))
    if gpus:
        name = tf.config.experimental.get_device_details(gpus[0]).get("device_name")
        kind = device_kind or device_kind_of(name)
        return Verdict(OK, f"{len(gpus)} x {name}, {n_replicas} replicas.", Devices(n_replicas, kind))
    message = "no TPU or GPU, so the CPU trains: give --tpu, or install the extra gpu on a machine with an NVIDIA GPU."
    return Verdict(WARNING, message, Devices(n_replicas, device_kind))


def model(config: GPTConfig) -> Verdict:
    """The model's configuration is sound."""
    return Verdict(
        OK, f"{config.model_type}, {config.parameter_count():,} parameters, seq_len {config.seq_len}.", config
    )


def records(record_set: RecordSet) -> Verdict:
    """Opening the records has checked that every shard is there, whole, with its checksum."""
    return Verdict(OK, f"{record_set.records:,} records in {record_set.folder}, every shard intact.", record_set)


def validation_records(record_set: RecordSet | None) -> Verdict:
    """The same, where there are any."""
    if record_set is None:
        return Verdict(WARNING, "no --val_path, so the run will not be validated: name a folder of records.")
    return records(record_set)


def training_configuration(config: TrainConfig) -> Verdict:
    """The training flags are sound."""
    message = f"{config.total_steps:,} steps of {config.batch_size}, {config.optimizer}, {config.compute_dtype}."
    return Verdict(OK, message, config)


def cadence(periods: Cadence) -> Verdict:
    """The flags for logging, validating and saving are sound."""
    every = f"log {periods.log_every_steps}, validation {periods.eval_every_steps}, saving {periods.save_every_steps}"
    return Verdict(OK, f"steps between: {every}; the newest {periods.keep_checkpoints} checkpoints stay.", periods)


def tracking(settings: TrackingConfig) -> Verdict:
    """The flags for watching are sound, and the package that they ask for is there."""
    wandb_log.require_installed(settings.wandb_project)
    places = [METRICS_NAME, *(["TensorBoard"] if settings.tensorboard else [])]
    places += [f"Weights & Biases ({settings.wandb_project})"] if settings.wandb_project else []
    return Verdict(OK, f"figures go to {', '.join(places)}; {len(settings.sample_prompt)} prompts are sampled.", True)


def tokenizer(training_records: RecordSet) -> Verdict:
    """The tokenizer beside the records is the one that the manifest names."""
    loaded = load_tokenizer(training_records.folder, training_records.tokenizer_sha256)
    return Verdict(OK, f"the one that the manifest names ({loaded.sha256[:8]}).")


def agreement(run: Run) -> Verdict:
    """Model, training configuration and records agree, which making the `Run` has checked."""
    return Verdict(OK, "model, records and tokenizer fit together.", run)


def data_paths(run: Run, tpu: str | None) -> Verdict:
    """The records lie where the devices can read them."""
    from algpt2.devices import strategies

    strategies.require_readable_by_tpu(tpu, run.data_paths())
    return Verdict(OK, "the devices can read them.")


def batch(training_configuration: TrainConfig, devices: Devices) -> Verdict:
    """The global batch divides by replicas x accumulation."""
    micro_batch = training_configuration.micro_batch_size(devices.n_replicas)
    parts = f"{devices.n_replicas} replicas x {training_configuration.accumulation_steps} micro-batches x {micro_batch}"
    return Verdict(OK, f"{training_configuration.batch_size} = {parts} sequences.", micro_batch)


def no_model_dir() -> Verdict:
    """No folder was given."""
    return Verdict(ERROR, "--model_dir must name a folder for checkpoints, and it was not given.")


def run_folder_state(run: Run, model_dir: str) -> Verdict:
    """The folder is new, or holds this very run; another's is refused as training would."""
    if not storage.exists(model_dir):
        return Verdict(OK, f"{model_dir} is new: the run starts at step 0.")
    if not storage.exists(storage.join(model_dir, RUN_NAME)):
        raise UserError(
            f"--model_dir must be new, empty or hold this run, and {model_dir} holds other files: name another."
        )
    claim_run_folder(model_dir, run.identity)  # where run.json is, this only compares
    from algpt2.checkpoints.folder import newest_intact_checkpoint

    newest = newest_intact_checkpoint(model_dir)
    step = newest.step if newest else 0
    return Verdict(
        OK, f"{model_dir} holds this very run: it would resume from step {step} of {run.train_config.total_steps}."
    )


def writing(model_dir: str) -> Verdict:
    """A small file can be written and deleted: in the folder, or where it would be made."""
    place = model_dir if storage.is_remote(model_dir) else _existing_folder(model_dir)
    probe = storage.join(place, f".doctor-{uuid.uuid4().hex}")
    try:
        storage.write_text(probe, "")
        storage.of(probe).delete_file(probe)
    except OSError as error:
        raise UserError(
            f"--model_dir must be writable, and {place} is not ({error.strerror}): name another or permit it."
        ) from error
    return Verdict(OK, f"a file could be written and deleted in {place}.")


def disk(run: Run, model_dir: str) -> Verdict:
    """There is room for the checkpoints that stay and the one being written."""
    size = checkpoint_bytes(run.model_config, run.train_config)
    for_good = run.cadence.keep_every_steps and run.train_config.total_steps // run.cadence.keep_every_steps
    count = run.cadence.keep_checkpoints + 1 + for_good
    need = f"{count} checkpoints of {_gib(size)} take {_gib(count * size)}"
    if storage.is_remote(model_dir):
        return Verdict(OK, f"{need} of {model_dir}.")
    place = _existing_folder(model_dir)
    held = sum(map(os.path.getsize, storage.of(place).list_files(model_dir))) if os.path.isdir(model_dir) else 0
    room = shutil.disk_usage(place).free + held
    if room < count * size:
        return Verdict(ERROR, f"{need}, and {place} has room for {_gib(room)}: free some or lower --keep_checkpoints.")
    return Verdict(OK, f"{need}; there is room for {_gib(room)}.")


def memory(model: GPTConfig, training_configuration: TrainConfig, micro_batch: int, devices: Devices) -> Verdict:
    """A replica's memory, estimated, against what its device has."""
    parts = replica_bytes(model, training_configuration, micro_batch)
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


def duration(run: Run, devices: Devices, mfu: float) -> Verdict:
    """Steps, tokens, epochs, and the time that they take at an assumed utilisation."""
    if not 0 < mfu <= 1:
        raise UserError(f"--mfu must be a fraction above 0 and at most 1, received {mfu}.")
    tokens = run.train_config.total_steps * run.tokens_per_step
    epochs = run.describe()["epochs"]
    message = f"{run.train_config.total_steps:,} steps, {tokens:,} tokens, {epochs:.2f} epochs"
    if devices.kind is None:
        return Verdict(OK, f"{message}; for the time, give --device_kind ({', '.join(CHIPS)}).")
    flops = tokens * training_flops_per_token(run.model_config)
    seconds = flops / (mfu * peak_flops(devices.n_replicas, devices.kind))
    return Verdict(OK, f"{message}, {format_seconds(seconds)} at {mfu:.0%} of the peak of {devices.kind}.")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _existing_folder(folder: str) -> str:
    """Returns the folder itself, or the nearest one above it that exists."""
    place = os.path.abspath(folder)
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    return place


def _gib(size: float) -> str:
    return f"{size / GIB:.2f} GiB" if size >= GIB else f"{size / 2**20:.1f} MiB"
