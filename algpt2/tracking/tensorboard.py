"""A run's curves and samples in event files, which TensorBoard shows.

Events are written as records, by this process. `tf.summary`'s writer is an operation: with a TPU reached over the
network it lives on the TPU's machine, and so would its files (docs/design/tracking.md).
"""

import os
import socket
import time
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from algpt2 import storage
from algpt2.tracking.metrics import Metrics, Sample, tag_of

FILE_PREFIX = "events.out.tfevents."
FILE_VERSION = "brain.Event:2"

Event = tf.compat.v1.Event
Summary = tf.compat.v1.Summary
SessionLog = tf.compat.v1.SessionLog


class TensorBoard:
    """One event file of a process. TensorBoard reads a run's files in the order of their names."""

    def __init__(self, folder: str, first_step: int):
        """Begins a file with the mark at which TensorBoard forgets every point after `first_step`."""
        if not storage.is_remote(folder):
            os.makedirs(folder, exist_ok=True)
        self._writer = tf.io.TFRecordWriter(storage.join(folder, _next_name(folder)))
        self._write(file_version=FILE_VERSION)
        self._write(step=first_step + 1, session_log=SessionLog(status=SessionLog.START))
        self._writer.flush()

    def write(self, step: int, metrics: Metrics) -> None:
        """Writes every number as a point of the curve `tag_of` its key."""
        numbers = {key: value for key, value in metrics.items() if isinstance(value, int | float)}
        values = [Summary.Value(tag=tag_of(key), simple_value=value) for key, value in numbers.items()]
        self._write_values(step, values)

    def write_samples(self, step: int, samples: Sequence[Sample]) -> None:
        """Writes every sample as a text, marked as code because TensorBoard would show it as Markdown otherwise."""
        texts = [f"```\n{sample.prompt}{sample.text}\n```" for sample in samples]
        self._write_values(step, [_text_value(f"samples/{i}", text) for i, text in enumerate(texts)])

    def close(self) -> None:
        self._writer.close()

    def _write_values(self, step: int, values: Sequence[Summary.Value]) -> None:
        self._write(step=step, summary=Summary(value=values))
        self._writer.flush()

    def _write(self, **fields: Any) -> None:
        self._writer.write(Event(wall_time=time.time(), **fields).SerializeToString())


def _next_name(folder: str) -> str:
    """Returns a name that sorts behind those of all earlier processes, whatever their machines' clocks said."""
    names = [storage.base_name(file) for file in storage.of(folder).list_files(folder)]
    numbers = [name.removeprefix(FILE_PREFIX).split(".")[0] for name in names if name.startswith(FILE_PREFIX)]
    number = max((int(number) for number in numbers if number.isdigit()), default=0) + 1
    return f"{FILE_PREFIX}{number:010d}.{socket.gethostname()}"


def _text_value(tag: str, text: str) -> Summary.Value:
    metadata = tf.compat.v1.SummaryMetadata(plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="text"))
    return Summary.Value(tag=tag, metadata=metadata, tensor=tf.make_tensor_proto([text], tf.string))
