"""The records that a run trained on at one step, as text."""

from typing import Any

import tensorflow as tf

from algpt2.errors import UserError
from algpt2.records.input_pipeline import record_ids, train_batches
from algpt2.records.record_set import load_tokenizer, open_record_set
from algpt2.runs.folder import require_run


def replay(paths: list[str], model_dir: str, step: int) -> dict[str, Any]:
    """Returns the global batch of a run's step (0-based, as in `skipped.jsonl`), row by row, as text.

    Args:
      paths: the run's `--train_path`.
      model_dir: the run's folder.
      step: any step of the run, whether its update was skipped or not.

    Raises:
      UserError: no run, no such step, or other records than the run's.
    """
    record = require_run(model_dir, "--replay")
    config = record.identity.train_config
    if not 0 <= step < config.total_steps:
        raise UserError(f"--replay must be a step of the run, from 0 to {config.total_steps - 1}, received {step}.")
    record_set = open_record_set(paths, "train")
    if record_set.fingerprint != record.identity.train_fingerprint:
        raise UserError(
            f"--input must be the training records of the run in {model_dir}, in the order of its --train_path, and "
            f"{', '.join(paths)} has others: name those."
        )
    ids = record_ids(record_set, config.batch_size, config.seed, step)
    tokenizer = load_tokenizer(record_set.folder, record_set.tokenizer_sha256)
    one_replica = tf.distribute.InputContext()
    (batch,) = train_batches(record_set, config.batch_size, config.seed, step, one_replica).take(1)
    rows, *_ = tf.nest.flatten(batch)  # behind which the weights of targets may stand
    texts = [tokenizer.decode(tokens) for tokens in rows.numpy()]
    records = [{"record": str(one), "text": text} for one, text in zip(ids, texts, strict=True)]
    return {"model_dir": model_dir, "step": step, "records": records}
