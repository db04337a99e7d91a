"""A training run as one value: model, training configuration, cadence, records, folder."""

import dataclasses
import math
from typing import Any

from algpt2.config.cadence import Cadence
from algpt2.config.model import GPTConfig
from algpt2.config.step_shape import require_shapes
from algpt2.config.tracking import TrackingConfig
from algpt2.config.training import TrainConfig
from algpt2.errors import UserError
from algpt2.records.record_set import RecordSet
from algpt2.runs.folder import RunIdentity


@dataclasses.dataclass(frozen=True)
class InitialWeights:
    """A checkpoint to take the first weights from, without its optimizer state and its step.

    path: a checkpoint, or a `--model_dir`, which means its newest.
    duplicate_layers: whether a model with more blocks takes some of the checkpoint's twice or more.
    """

    path: str
    duplicate_layers: bool = False


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything a training run is made of. `val_records` None means no validation.

    `optimizer_changes` names what a study changes in the optimizer, which is nothing in a run of the trainer.

    Raises:
      UserError: model, records and schedule do not fit together.
    """

    model_config: GPTConfig
    train_config: TrainConfig
    cadence: Cadence
    train_records: RecordSet
    val_records: RecordSet | None
    model_dir: str | None
    initial_weights: InitialWeights | None = None
    tracking: TrackingConfig = TrackingConfig()
    optimizer_changes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for records in self.record_sets():
            _require_fit(self.model_config, records)
        require_lengths_fit(self.model_config, self.train_config)
        if self.cadence.numerics_batches:
            self._require_sense_in_numerics_check()
        if self.val_records and self.val_records.tokenizer_sha256 != self.train_records.tokenizer_sha256:
            raise UserError(
                "training and validation records must be made with the same tokenizer, and "
                f"{self.train_records.folder} and {self.val_records.folder} were not."
            )

    def _require_sense_in_numerics_check(self) -> None:
        if self.train_config.compute_dtype == "float32" or not self.val_records:
            raise UserError(
                "--numerics_batches compares --compute_dtype with float32 on validation records, received "
                f"compute_dtype {self.train_config.compute_dtype} and {'a' if self.val_records else 'no'} --val_path: "
                "leave it out, or give --compute_dtype bfloat16 and --val_path."
            )

    @property
    def identity(self) -> RunIdentity:
        """What the final weights are a function of."""
        path = self.initial_weights.path if self.initial_weights else None
        return RunIdentity(
            self.model_config, self.train_config, self.train_records.fingerprint, path, self.optimizer_changes
        )

    def record_sets(self) -> list[RecordSet]:
        """Returns the training records and, where there is validation, the validation records."""
        return [self.train_records, *filter(None, [self.val_records])]

    def data_paths(self) -> list[str]:
        """Returns every shard that the run reads."""
        return [file for record_set in self.record_sets() for file in record_set.files]

    def describe(self) -> dict[str, Any]:
        """Returns the resolved configuration and what follows from it, as plain JSON values."""
        tokens = self.train_config.total_steps * self.tokens_per_step
        return {
            "model_config": self.model_config.to_dict(),
            "train_config": self.train_config.to_dict(),
            "cadence": dataclasses.asdict(self.cadence),
            "tracking": self.tracking.to_dict(),
            "parameters": self.model_config.parameter_count(),
            "train_records": self.train_records.records,
            "val_records": self.val_records.records if self.val_records else 0,
            "steps": self.train_config.total_steps,
            "tokens": tokens,
            "epochs": tokens / (self.train_records.records * self.train_records.seq_len),
            "model_dir": self.model_dir,
        }

    def epoch_of(self, step: int) -> int:
        """Returns the 0-based number of the epoch in which the first record of a step (0-based) lies."""
        return step * self.train_config.batch_size // self.train_records.records

    @property
    def tokens_per_step(self) -> int:
        """Target tokens of one global batch."""
        return self.train_config.batch_size * self.model_config.seq_len


def require_lengths_fit(model_config: GPTConfig, train_config: TrainConfig) -> None:
    """Raises `UserError` unless the warm-ups, of length, depth and learning rate, fit model and run."""
    require_shapes(train_config, model_config)
    train_config.warmup_updates(train_config.batch_size * model_config.seq_len)


def steps_of_epochs(epochs: float, records: RecordSet, batch_size: int) -> int:
    """Returns the full global batches in `epochs` passes over the records.

    Raises:
      UserError: there is not even one, or more than a run can count.
    """
    batches = epochs * records.records / batch_size
    if batches >= 2**31:
        raise UserError(
            f"training needs fewer than 2^31 steps: {epochs} epochs of {records.records} records make more batches "
            f"of {batch_size}: lower --epochs."
        )
    if not batches >= 1:
        raise UserError(
            f"training needs at least one full batch: {epochs} epochs of {records.records} records make "
            f"none of {batch_size}: lower --batch_size or raise --epochs."
        )
    return math.floor(batches)


def _require_fit(config: GPTConfig, records: RecordSet) -> None:
    if records.seq_len != config.seq_len:
        raise UserError(
            f"records and model must have the same seq_len, and {records.folder} has {records.seq_len}, the model "
            f"{config.seq_len}: make records with --seq_len {config.seq_len}, or train with --seq_len "
            f"{records.seq_len}."
        )
    if records.vocab_size > config.vocab_size:
        raise UserError(
            f"the model's vocab_size must be at least the tokenizer's, and {records.folder} was made with "
            f"{records.vocab_size}, the model has {config.vocab_size}: choose another --config_path or tokenizer, or "
            f"give --vocab_size {records.vocab_size}."
        )
    if config.document_eos_id not in (None, records.eos_id):
        raise UserError(
            f"the model's document_eos_id must be the id in front of each document, which is {records.eos_id} in "
            f"{records.folder}, received {config.document_eos_id}: set it to that, or leave it out and give "
            "--document_mask."
        )
