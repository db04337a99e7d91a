"""What TensorFlow says when it cannot read records, as sentences that name the shard and the remedy."""

import contextlib
import re
from collections.abc import Iterator, Sequence

import tensorflow as tf
from absl import logging

from algpt2.config.records import DOCUMENTS_FORMAT
from algpt2.errors import TrainingStopped, UserError
from algpt2.records.document_rows import checked_documents
from algpt2.records.input_pipeline import checked_records, counted_shard
from algpt2.records.manifest import WEIGHTED_FORMAT
from algpt2.records.record_set import RecordSet, require_checksum, require_size
from algpt2.records.shard_entry import Shard
from algpt2.records.tfrecords import is_about_content, parse_weights, refusal_of_content

BATCH_RECORDS = 1024
LONGEST_REASON = 300


class InputOutage(TrainingStopped):
    """Records cannot be read at the moment, although nothing is known to be wrong with them."""


@contextlib.contextmanager
def reading_errors(*record_sets: RecordSet) -> Iterator[None]:
    """Translates errors of TensorFlow that are about these records; all others pass.

    TensorFlow names the shard that it could not open or reach. It does not name the one in which a record is bad, so
    the shards are compared with their manifest then, which costs nothing as long as all is well.

    Raises:
      UserError: a record or a shard is not what the manifest says, or a shard is missing, or may not be read.
      InputOutage: a shard could not be read for another reason, although TensorFlow tried for minutes.
    """
    try:
        yield
    except tf.errors.OpError as error:
        if is_about_content(error):
            raise _find_bad_shard(error, record_sets) from error
        if (file := _named_shard(error, record_sets)) is None:
            raise
        raise _refusal_of_shard(error, file) from error


def _refusal_of_shard(error: tf.errors.OpError, file: str) -> UserError | TrainingStopped:
    if isinstance(error, tf.errors.NotFoundError):
        return UserError(
            f"every shard must stay where it is while it is read, and {file} is gone: copy it there again; checkpoints "
            "are intact."
        )
    reason = _reason(error, file)
    if isinstance(error, (tf.errors.PermissionDeniedError, tf.errors.UnauthenticatedError)):
        return UserError(
            f"TensorFlow must be permitted to read {file}, and is not ({reason}): permit this account, and the TPU's "
            "service account, to read it (on gs://, roles/storage.objectViewer); checkpoints are intact."
        )
    return InputOutage(
        f"records must stay within reach, and {file} could not be read ({reason}): check the network or the disk, and "
        "run the same command again to go on from the last checkpoint."
    )


def _named_shard(error: tf.errors.OpError, record_sets: Sequence[RecordSet]) -> str | None:
    """Returns the shard that the error names; of names that begin alike, the longest."""
    named = [file for record_set in record_sets for file in record_set.files if file in error.message]
    return max(named, key=len, default=None)


def _reason(error: tf.errors.OpError, file: str) -> str:
    """Returns the line of TensorFlow's message that says what happened; others say where in the graph it did."""
    lines = [line for line in error.message.splitlines() if "HTTP request" in line or file in line]
    return re.sub(r"{{.*?}} |\s*\[.*", "", lines[0]).strip()[:LONGEST_REASON]


def _find_bad_shard(error: tf.errors.OpError, record_sets: Sequence[RecordSet]) -> UserError:
    """Returns what is wrong with the first shard in which something is, or what is known if none can be found."""
    logging.warning("records are not what their manifest says: looking for the shard that they are in")
    for examine in (_compare, _read_through):
        for record_set in record_sets:
            for file, shard in zip(record_set.files, record_set.shards, strict=True):
                if refusal := examine(record_set, file, shard):
                    return refusal
    return refusal_of_content(error, ", ".join(record_set.folder for record_set in record_sets))


def _compare(_: RecordSet, file: str, shard: Shard) -> UserError | None:
    """Returns what is wrong with a shard's size or checksum."""
    try:
        require_size(file, shard)
        require_checksum(file, shard)
    except UserError as refusal:
        return refusal
    except Exception as hindrance:  # Whatever the storage raises, it must not hide what is wrong with the records.
        logging.warning("%s could not be compared with its manifest (%s)", file, hindrance)
    return None


def _read_through(record_set: RecordSet, file: str, shard: Shard) -> UserError | None:
    """Returns what is wrong with a shard's records, which is left if the manifest itself was made of a bad shard."""
    checked = checked_documents if record_set.record_format == DOCUMENTS_FORMAT else checked_records
    try:
        for serialized in counted_shard(file, shard.records).batch(BATCH_RECORDS):
            checked(serialized, record_set)
            if record_set.record_format == WEIGHTED_FORMAT:
                parse_weights(serialized, record_set.seq_len)
    except tf.errors.OpError as error:
        return refusal_of_content(error, file) if is_about_content(error) else None
    return None
