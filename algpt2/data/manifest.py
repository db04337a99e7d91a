"""`manifest.json`: what a folder of TFRecord shards holds. Written last, so a folder without it is unfinished."""

import dataclasses
import json
from typing import Any

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.storage import json_files

MANIFEST_NAME = "manifest.json"
FORMAT_VERSION = 1
IDS_FORMAT = "ids"
INPUTS_LABELS_FORMAT = "inputs_labels"
RECORD_FORMATS = (IDS_FORMAT, INPUTS_LABELS_FORMAT)


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file: its name in the folder, how many records it holds, its size and its checksum.

    `target_bytes` is the UTF-8 size of the text that its target tokens spell, for bits per byte.
    """

    name: str
    records: int
    size_bytes: int
    crc32c: str
    target_bytes: int


@dataclasses.dataclass(frozen=True)
class Split:
    """The counts of one split (`train` or `val`).

    `input_tokens` counts every token of the packed stream, EOS included; `target_tokens` those that some record
    predicts (records x seq_len); `tail_tokens` the ids of the unfinished record left at the end, which starts at
    the last record's last id. So `target_tokens + tail_tokens == input_tokens`. `text_bytes` is the UTF-8 size of
    the documents. None means unknown: records made elsewhere do not tell what they were cut from
    (`indexing.py`).
    """

    documents: int | None
    text_bytes: int | None
    input_tokens: int | None
    target_tokens: int
    tail_tokens: int | None
    shards: tuple[Shard, ...]

    @property
    def records(self) -> int:
        """How many records all shards hold."""
        return sum(shard.records for shard in self.shards)

    @property
    def target_bytes(self) -> int:
        """The UTF-8 size of the text that all target tokens spell."""
        return sum(shard.target_bytes for shard in self.shards)


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Everything training must know about a folder of shards. JSON on disk.

    `record_format` is how a record is stored (`tfrecords.py`). `seed` and `val_fraction` are those of
    `RecordOptions`, None for records made elsewhere.

    Raises:
      ValueError: there is no such `record_format`.
    """

    seq_len: int
    vocab_size: int
    eos_id: int
    tokenizer_sha256: str
    seed: int | None
    val_fraction: float | None
    train: Split
    val: Split
    record_format: str = IDS_FORMAT
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        if self.record_format not in RECORD_FORMATS:
            raise ValueError(f"record_format must be one of {RECORD_FORMATS}, received {self.record_format!r}")

    def to_json(self) -> str:
        """Returns the file's text."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


def counts(manifest: Manifest) -> dict[str, Any]:
    """Returns a manifest's fields for people: sums over each split's shards in place of the shards."""
    short = {}
    for name, split in (("train", manifest.train), ("val", manifest.val)):
        sums = {"records": split.records, "target_bytes": split.target_bytes, "shards": len(split.shards)}
        short[name] = {**dataclasses.asdict(split), **sums}
    return {**dataclasses.asdict(manifest), **short}


def write_manifest(folder: str, manifest: Manifest) -> None:
    """Writes `manifest.json`; call it after every shard is in place."""
    storage.write_text(storage.join(folder, MANIFEST_NAME), manifest.to_json())


def read_manifest(folder: str) -> Manifest:
    """Returns a folder's manifest.

    Raises:
      UserError: there is none, or it is not one of this version.
    """
    path = storage.join(folder, MANIFEST_NAME)
    if not storage.exists(path):
        raise UserError(
            f"a folder of TFRecords must hold {MANIFEST_NAME}, which is written last, and {folder} has none: "
            "it is unfinished, or made elsewhere, which data_tools/index_tfrecords.py mends."
        )
    with json_files.refusing(path, f"be a manifest of format version {FORMAT_VERSION}", "make the data again"):
        fields = json_files.load_object(path)
        if (version := fields.get("format_version")) != FORMAT_VERSION:
            raise ValueError(f"its format_version is {version}")
        return json_files.build(Manifest, fields)
