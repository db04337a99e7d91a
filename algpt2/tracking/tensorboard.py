"""A run's curves and samples in event files, which TensorBoard shows.

Events are written as records, by this process. `tf.summary`'s writer is an operation: with a TPU reached over the
network it lives on the TPU's machine, and so would its files (docs/design/tracking.md).
"""

import errno
import os
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any

import google_crc32c
import tensorflow as tf

from algpt2 import storage
from algpt2.storage.publisher import Publisher
from algpt2.tracking.metrics import Metrics, Sample, tag_of

FILE_PREFIX = "events.out.tfevents."
FILE_VERSION = "brain.Event:2"
LARGEST_FILE_BYTES = 1 << 20
REST_SECONDS = 30.0

Event = tf.compat.v1.Event
Summary = tf.compat.v1.Summary
SessionLog = tf.compat.v1.SessionLog


class TensorBoard:
    """One process's events. TensorBoard reads a run's files in the order of their names."""

    def __init__(self, folder: str, first_step: int, publisher: Publisher):
        """Begins with the mark at which TensorBoard forgets every point after `first_step`.

        Args:
          folder: of the event files of all processes of the run.
          first_step: steps done when this process begins.
          publisher: writes the files on Cloud Storage.
        """
        number = _last_number(folder) + 1
        if storage.is_remote(folder):
            self._file = PublishedEvents(folder, number, publisher)
        else:
            self._file = AppendedEvents(folder, number)
        self._write(step=first_step + 1, session_log=SessionLog(status=SessionLog.START))

    def write(self, step: int, metrics: Metrics) -> None:
        """Writes every number as a point of the curve `tag_of` its key."""
        numbers = {key: value for key, value in metrics.items() if isinstance(value, int | float)}
        values = [Summary.Value(tag=tag_of(key), simple_value=value) for key, value in numbers.items()]
        self._write(step=step, summary=Summary(value=values))

    def write_samples(self, step: int, samples: Sequence[Sample]) -> None:
        """Writes every sample as a text, marked as code because TensorBoard would show it as Markdown otherwise."""
        texts = [f"```\n{sample.prompt}{sample.text}\n```" for sample in samples]
        values = [_text_value(f"samples/{i}", text) for i, text in enumerate(texts)]
        self._write(step=step, summary=Summary(value=values))

    def close(self) -> None:
        self._file.close()

    def _write(self, **fields: Any) -> None:
        self._file.append(_record(**fields))


class AppendedEvents:
    """An event file on a disk. A running TensorBoard holds it open, so it must stay the same file while it grows."""

    def __init__(self, folder: str, number: int):
        os.makedirs(folder, exist_ok=True)
        self._stream = open(storage.join(folder, _name(number)), "xb", buffering=0)  # noqa: SIM115, `close` closes it
        self._size_bytes = 0
        self.append(_record(file_version=FILE_VERSION))

    def append(self, record: bytes) -> None:
        """Adds a record, whole or not at all, so that those behind one that failed can be read."""
        try:
            if self._stream.write(record) != len(record):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._stream.name)
        except OSError:
            self._stream.truncate(self._size_bytes)
            self._stream.seek(self._size_bytes)
            raise
        self._size_bytes += len(record)

    def close(self) -> None:
        """Closes the file."""
        self._stream.close()


class PublishedEvents:
    """Event files on Cloud Storage, each of which is uploaded whole, every so often, until it is large enough.

    So the traffic of a run grows like its length and not like the square of it.
    """

    def __init__(self, folder: str, number: int, publisher: Publisher):
        self._folder = folder
        self._publisher = publisher
        self._begin(number)

    def append(self, record: bytes) -> None:
        """Adds a record, and hands the file over."""
        self._records.append(record)
        self._size_bytes += len(record)
        if self._size_bytes < LARGEST_FILE_BYTES:
            self._publish(REST_SECONDS)
        else:
            self.close()
            self._begin(self._number + 1)

    def close(self) -> None:
        """Hands the file over for the last time."""
        self._publish(rest_seconds=0.0)

    def _begin(self, number: int) -> None:
        self._number = number
        self._records = [_record(file_version=FILE_VERSION)]
        self._size_bytes = len(self._records[0])

    def _publish(self, rest_seconds: float) -> None:
        path = storage.join(self._folder, _name(self._number))
        self._publisher.publish(path, self._records, rest_seconds, required=False)


def _record(**fields: Any) -> bytes:
    """Returns an event as a TFRecord: its length, the length's checksum, the event, its checksum."""
    event = Event(wall_time=time.time(), **fields).SerializeToString()
    length = struct.pack("<Q", len(event))
    return length + _masked_crc32c(length) + event + _masked_crc32c(event)


def _masked_crc32c(data: bytes) -> bytes:
    """Returns the checksum of a TFRecord, which is a CRC32C that was rotated by 15 bits and added to a constant."""
    checksum = google_crc32c.value(data)
    return struct.pack("<I", ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def _last_number(folder: str) -> int:
    """Returns the highest number of an event file, 0 if there is none.

    A name with a higher one sorts behind those of all earlier processes, whatever their machines' clocks said.
    """
    names = [storage.base_name(file) for file in storage.of(folder).list_files(folder)]
    numbers = [name.removeprefix(FILE_PREFIX).split(".")[0] for name in names if name.startswith(FILE_PREFIX)]
    return max((int(number) for number in numbers if number.isdigit()), default=0)


def _name(number: int) -> str:
    return f"{FILE_PREFIX}{number:010d}.{socket.gethostname()}"


def _text_value(tag: str, text: str) -> Summary.Value:
    metadata = tf.compat.v1.SummaryMetadata(plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="text"))
    return Summary.Value(tag=tag, metadata=metadata, tensor=tf.make_tensor_proto([text], tf.string))
