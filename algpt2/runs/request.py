"""A training run as a command line asks for it. What is left out stays as the run in `--model_dir` has it."""

import argparse
import dataclasses
import functools
import os
from collections.abc import Callable
from datetime import datetime

from algpt2 import storage
from algpt2.config.cadence import Cadence
from algpt2.config.model import GPTConfig, preset_names
from algpt2.config.model_files import CONFIG_NAME, load_config
from algpt2.config.options import COUNT, given_options
from algpt2.config.tracking import TrackingConfig
from algpt2.config.training import DEFAULT_LEARNING_RATE, TrainConfig
from algpt2.devices.chips import device_kind_of
from algpt2.errors import UserError, shown
from algpt2.records.record_set import RecordSet, open_record_set
from algpt2.runs.folder import RunIdentity, read_run
from algpt2.runs.plan import InitialWeights, Run, require_lengths_fit, steps_of_epochs

DEFAULT_PARENT = "runs"


class RunRequest:
    """The parts of a run, each made from the flags when it is asked for, and each a `UserError` if they are wrong."""

    def __init__(self, arguments: argparse.Namespace, now: Callable[[], datetime] = datetime.now):
        """Takes the parsed flags of train_tfrecords.py, and a clock, by which a folder that is not named is called."""
        self.flags = arguments
        self._now = now

    def run(self) -> Run:
        """Returns the whole run."""
        train_records = self.train_records()
        return Run(
            model_config=self.model_config(),
            train_config=self.train_config(train_records),
            cadence=self.cadence(),
            train_records=train_records,
            val_records=self.val_records(),
            model_dir=self.model_dir,
            initial_weights=self.initial_weights(),
            tracking=self.tracking(),
        )

    def step(self) -> tuple[GPTConfig, TrainConfig]:
        """Returns what the run's step is made of; without --train_path, which then needs --steps, on any records."""
        if self.flags.train_path:
            run = self.run()
            return run.model_config, run.train_config
        model_config, train_config = self.model_config(), self.train_config(None)
        require_lengths_fit(model_config, train_config)
        return model_config, train_config

    @functools.cached_property
    def begun(self) -> RunIdentity | None:
        """The run that --model_dir holds, if it holds one."""
        record = read_run(self.flags.model_dir) if self.flags.model_dir else None
        return record.identity if record else None

    @functools.cached_property
    def model_dir(self) -> str:
        """The folder of --model_dir, else a new one in `runs/` that is called after the model and the time.

        Raises:
          UserError: the flag is empty, or left out by one of several workers, who would all call it differently.
        """
        if self.flags.model_dir is not None:
            if not self.flags.model_dir:
                raise UserError("--model_dir must name a folder for checkpoints, received '': name one or leave it.")
            return self.flags.model_dir
        if os.environ.get("TF_CONFIG") and not (self.flags.dry_run or self.flags.rehearse):
            raise UserError(
                "--model_dir must name a folder that all workers see where TF_CONFIG is set, and it was not given."
            )
        name = self.flags.recipe or self.flags.config_path or self.flags.model_type or "run"
        return f"{DEFAULT_PARENT}/{_stem(name)}-{self._now():%Y%m%d-%H%M%S}"

    def model_config(self) -> GPTConfig:
        """Returns the model of --config_path, or of the begun run."""
        name_or_path = self.flags.config_path or self.flags.model_type
        if name_or_path:
            config = load_config(name_or_path, self.flags.model_type)
        elif self.begun:
            config = self.begun.model_config
        else:
            raise UserError(
                f"--config_path must name a model, one of {', '.join(preset_names())}, a JSON file or a folder."
            )
        if self.flags.model_type not in (None, config.model_type):
            raise UserError(
                f"--model_type must be the type of --config_path, which is {config.model_type}, "
                f"received {self.flags.model_type}: leave the flag out."
            )
        if self.flags.seq_len is not None:
            config = dataclasses.replace(config, seq_len=self.flags.seq_len)
        return dataclasses.replace(config, document_eos_id=self._eos_id()) if self.flags.document_mask else config

    def train_config(self, train_records: RecordSet | None) -> TrainConfig:
        """Returns the begun run's settings, or the defaults, with the flags in their place."""
        given = given_options(self.flags, TrainConfig)
        settings = {**(self.begun.train_config.to_dict() if self.begun else self._defaults(given)), **given}
        batch_size = settings.get("batch_size", TrainConfig.batch_size)
        if not COUNT.holds(batch_size):
            raise UserError(f"--batch_size must be {COUNT.text}, received {shown(batch_size)}.")
        return TrainConfig(**{**settings, "total_steps": self._total_steps(train_records, batch_size)})

    def train_records(self) -> RecordSet:
        """Returns the records of --train_path."""
        if not self.flags.train_path:
            raise UserError("--train_path must name folders or shards of records, and it was not given.")
        train_records = self._open_records(self.flags.train_path, "train")
        if self.flags.train_len not in (None, train_records.records):
            raise UserError(
                f"--train_len must be the number of training records, which is {train_records.records} by the "
                f"manifest, received {shown(self.flags.train_len)}: leave the flag out."
            )
        return train_records

    def val_records(self) -> RecordSet | None:
        """Returns the records of --val_path."""
        return self._open_records(self.flags.val_path, "val") if self.flags.val_path else None

    def cadence(self) -> Cadence:
        """Returns how often the run logs, validates and saves."""
        return Cadence(**given_options(self.flags, Cadence))

    def tracking(self) -> TrackingConfig:
        """Returns how the run is watched. A TPU named 'v3-128' is taken to be one."""
        return TrackingConfig(
            tensorboard_dir=self.flags.tensorboard_dir,
            **{"device_kind": device_kind_of(self.flags.tpu), **given_options(self.flags, TrackingConfig)},
        )

    def initial_weights(self) -> InitialWeights | None:
        """Returns the checkpoint of --initialize_from, or of the begun run."""
        path = self.flags.initialize_from or (self.begun.initial_weights if self.begun else None)
        if self.flags.duplicate_layers and not path:
            raise UserError("--duplicate_layers needs --initialize_from, and it was not given: leave the flag out.")
        return InitialWeights(path, self.flags.duplicate_layers) if path else None

    def _eos_id(self) -> int:
        """Returns the id in front of each document of --train_path, by the manifest."""
        if not self.flags.train_path:
            raise UserError(
                "--document_mask takes the id in front of each document from --train_path, and it was not given: give "
                "it, or write document_eos_id into the file of --config_path."
            )
        return open_record_set(self.flags.train_path, "train", check_content=False).eos_id

    def _open_records(self, paths: list[str], split: str) -> RecordSet:
        """Reads no shard on a disk for --dry_run and --rehearse, which only count records."""
        return open_record_set(paths, split, check_content=not (self.flags.dry_run or self.flags.rehearse))

    def _defaults(self, given: dict[str, object]) -> dict[str, object]:
        """Returns the defaults of a new run that depend on other flags."""
        optimizer = given.get("optimizer", TrainConfig.optimizer)
        for_tpu = self.flags.tpu or self.flags.rehearse
        return {
            "learning_rate": DEFAULT_LEARNING_RATE[optimizer],
            "compute_dtype": "bfloat16" if for_tpu else TrainConfig.compute_dtype,
        }

    def _total_steps(self, train_records: RecordSet | None, batch_size: int) -> int:
        steps, epochs = self.flags.steps, self.flags.epochs
        if steps is not None and not COUNT.holds(steps):
            raise UserError(f"--steps must be {COUNT.text}, received {shown(steps)}.")
        if steps is None and epochs is None and self.begun:
            return self.begun.train_config.total_steps
        if steps is None and train_records is None:
            raise UserError("--rehearse needs --steps, or --train_path to count them, and neither was given.")
        return steps or steps_of_epochs(1.0 if epochs is None else epochs, train_records, batch_size)


def _stem(name_or_path: str) -> str:
    """'gpt2' -> 'gpt2'; 'models/mine.json' -> 'mine'; 'gs://bucket/mine/config.json' -> 'mine'; './' -> 'run'."""
    path = name_or_path.rstrip("/")
    if storage.base_name(path) == CONFIG_NAME:
        path = storage.parent(path)
    return storage.base_name(path).removesuffix(".json").removesuffix(".toml").strip(".") or "run"
