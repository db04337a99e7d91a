"""What must hold before a run begins, as one list: training goes through it, and so does `--doctor`.

A rule that were in one of them alone would let `--doctor` say yes where training says no. Whether the devices answer
and whose folder it is are no part of the list: training finds that out by taking them.

This module imports TensorFlow only inside the checks that need it, because `--doctor` reports what it can without.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from algpt2.checkpoints.folder import checkpoint_step, committed_checkpoints
from algpt2.config.model import GPTConfig
from algpt2.config.tracking import TrackingConfig
from algpt2.config.training import TrainConfig
from algpt2.devices.chips import GIB
from algpt2.devices.host_memory import host_memory_bytes
from algpt2.errors import UserError
from algpt2.records.record_set import RecordSet, load_tokenizer
from algpt2.runs.folder import read_result
from algpt2.runs.plan import Run
from algpt2.text.tokenizer import Tokenizer
from algpt2.tracking import wandb_log

if TYPE_CHECKING:
    import tensorflow as tf

    from algpt2.training.benchmarks import Benchmark
    from algpt2.training.sampler import Prompts

FLOAT32_BYTES = 4
COMPUTE_BYTES = {"float32": 4, "bfloat16": 2}


@dataclasses.dataclass(frozen=True)
class StartCheck:
    """Something that must hold.

    name: of the check, and of what it finds.
    needs: the names of what it takes: of a run's parts, `run` itself, `strategy`, `tensorflow` where it imports that,
      or of a check before it.
    find: takes these, returns what it finds, which is not None, and raises `UserError` if it does not hold.
    report: what `--doctor` says where it holds; `str.format` puts in what was found.
    """

    name: str
    needs: tuple[str, ...]
    find: Callable[..., Any]
    report: str


def require_start(run: Run, strategy: "tf.distribute.Strategy") -> Mapping[str, Any]:
    """Goes through all checks of a run; returns what they found, by the name of the check.

    Raises:
      UserError: one of them does not hold. Nothing has been written.
    """
    known: dict[str, Any] = {field.name: getattr(run, field.name) for field in dataclasses.fields(run)}
    known |= {"run": run, "strategy": strategy, "tensorflow": True}
    for check in START_CHECKS:
        known[check.name] = check.find(*(known[name] for name in check.needs))
    return known


def least_host_bytes(model: GPTConfig, train: TrainConfig, micro_batch: int, on_host: bool) -> int:
    """Returns bytes that no training of a model can do without on this machine, whatever the compiler does.

    Where this machine computes, all parameters and all gradients are there at once, because the global norm needs every
    gradient, and so are the inputs of all layers, which the backward pass reads. Elsewhere a checkpoint needs a copy of
    the parameters here.
    """
    parameters = FLOAT32_BYTES * model.parameter_count()
    if not on_host:
        return parameters
    inputs = model.n_layer * model.d_model * micro_batch * model.seq_len * COMPUTE_BYTES[train.compute_dtype]
    return 2 * parameters + inputs


def _tokenizer(train_records: RecordSet) -> Tokenizer:
    tokenizer = load_tokenizer(train_records.folder, train_records.tokenizer_sha256)
    if (tokenizer.vocab_size, tokenizer.eos_id) != (train_records.vocab_size, train_records.eos_id):
        raise UserError(
            f"the manifest of records must have their tokenizer's vocab_size and eos_id, {tokenizer.vocab_size} and "
            f"{tokenizer.eos_id}, and that of {train_records.folder} has {train_records.vocab_size} and "
            f"{train_records.eos_id}: copy the folder again."
        )
    return tokenizer


def _batch(train_config: TrainConfig, strategy: "tf.distribute.Strategy") -> int:
    """Returns the sequences of one micro-batch on one replica."""
    return train_config.micro_batch_size(strategy.num_replicas_in_sync)


def _prompts(tracking: TrackingConfig, tokenizer: Tokenizer, model_config: GPTConfig, _: bool) -> "Prompts":
    from algpt2.training.sampler import Prompts

    return Prompts.of(tracking, tokenizer, model_config.seq_len)


def _benchmarks(
    tracking: TrackingConfig, tokenizer: Tokenizer, model_config: GPTConfig, _: bool
) -> "tuple[Benchmark, ...]":
    from algpt2.training.benchmarks import read_benchmarks

    return read_benchmarks(tracking, tokenizer, model_config.seq_len)


def _wandb(tracking: TrackingConfig) -> str:
    wandb_log.require_installed(tracking.wandb_project)
    return f"curves go to {tracking.wandb_project}" if tracking.wandb_project else "not asked for"


def _steps_made(run: Run, model_dir: str) -> int:
    """Returns how many steps a begun run has made, which must not be more than it is to make."""
    steps = max(map(checkpoint_step, committed_checkpoints(model_dir)), default=0)
    total_steps = run.train_config.total_steps
    if steps > total_steps:
        raise UserError(
            f"--steps must be at least the {steps} that the run in {model_dir} has made, received {total_steps}: give "
            "more steps or epochs, or go back with --rewind_to."
        )
    if steps == total_steps:
        read_result(model_dir)
    return steps


def _initial_weights(run: Run, tokenizer: Tokenizer, steps_made: int, _: bool) -> str:
    """Says where they come from; a run that has made steps has weights of its own."""
    from algpt2.training.initial_weights import find_initial_weights

    if steps_made:
        return f"those of this run after step {steps_made}"
    if not run.initial_weights:
        return "drawn from the seed"
    return str(find_initial_weights(run.initial_weights, run.model_config, tokenizer))


def _host_memory(model: GPTConfig, train: TrainConfig, micro_batch: int, strategy: "tf.distribute.Strategy") -> float:
    """Returns the least that a run needs of this machine's memory, in GiB; the machine must have it."""
    from algpt2.devices.strategies import computes_on_host

    needed = least_host_bytes(model, train, micro_batch, computes_on_host(strategy)) / GIB
    available = host_memory_bytes()
    if available is not None and needed > available / GIB:
        raise UserError(
            f"a run must fit into this machine's memory of {available / GIB:.1f} GiB, and {model.parameter_count():,} "
            f"parameters with a micro-batch of {micro_batch} x {model.seq_len} take at least {needed:,.1f}: choose a "
            "smaller --config_path, lower --batch_size or raise --accumulation_steps."
        )
    return needed


def _first_batches(run: Run, strategy: "tf.distribute.Strategy", steps_made: int, _: float) -> bool:
    """Reads them after all else, because a batch that no memory can hold must have been refused before."""
    from algpt2.records.reading_errors import reading_errors
    from algpt2.training.first_batches import require_first_batches

    with reading_errors(*run.record_sets()):
        require_first_batches(run, strategy, steps_made)
    return True


START_CHECKS = (
    StartCheck("batch", ("train_config", "strategy"), _batch, "a micro-batch has {} sequences."),
    StartCheck("tokenizer", ("train_records",), _tokenizer, "the one that the manifest names ({0.sha256:.8})."),
    StartCheck(
        "prompts",
        ("tracking", "tokenizer", "model_config", "tensorflow"),
        _prompts,
        "each fits, with its sample.",
    ),
    StartCheck(
        "benchmarks",
        ("tracking", "tokenizer", "model_config", "tensorflow"),
        _benchmarks,
        "the files that are asked for can be scored.",
    ),
    StartCheck("wandb", ("tracking",), _wandb, "{}."),
    StartCheck("steps made", ("run", "model_dir"), _steps_made, "{}."),
    StartCheck("initial weights", ("run", "tokenizer", "steps made", "tensorflow"), _initial_weights, "{}."),
    StartCheck(
        "host memory",
        ("model_config", "train_config", "batch", "strategy"),
        _host_memory,
        "it takes {:,.2f} GiB of this machine's memory, or more.",
    ),
    StartCheck(
        "first batches", ("run", "strategy", "steps made", "host memory"), _first_batches, "the records can be read."
    ),
)
