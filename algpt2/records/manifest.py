"""`manifest.json`: what a folder of TFRecord shards holds. Written last, so a folder without it is unfinished."""

import dataclasses
import hashlib
import json
import os
import re
from collections import Counter
from typing import Any

from algpt2 import storage
from algpt2.config.records import LOSSY_PACKINGS, PACKINGS, STREAM_PACKING
from algpt2.errors import UserError
from algpt2.storage import json_files

MANIFEST_NAME = "manifest.json"
SOURCES_NAME = "sources.json"
FORMAT_VERSION = 1
CONTENT_HASH = "content_sha256"
IDS_FORMAT = "ids"
INPUTS_LABELS_FORMAT = "inputs_labels"
RECORD_FORMATS = (IDS_FORMAT, INPUTS_LABELS_FORMAT)
LARGEST_VOCAB_SIZE = 1 << 31  # Ids are int32 wherever they are read.
REMEDY = "copy it again from where the data was made, or make it anew with data_tools/index_tfrecords.py"


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file: its name in the folder, how many records it holds, its size and its checksum.

    `target_bytes` is the UTF-8 size of the text that its target tokens spell, for bits per byte. `documents` is how
    many documents begin in its records, an EOS at a record's last place not counted, which the next record has again.
    None means that they were not counted, as in manifests of earlier versions.

    Raises:
      ValueError: a value is none that a shard can have.
    """

    name: str
    records: int
    size_bytes: int
    crc32c: str
    target_bytes: int
    documents: int | None = None

    def __post_init__(self) -> None:
        _require(
            _is_file_name(self.name),
            f"a shard's name is {self.name!r}, which is not the name of a file right in the folder",
        )
        for field in ("records", "size_bytes", "target_bytes", "documents"):
            _require_count(f"{field} of shard {self.name!r}", getattr(self, field) or 0)
        _require_hexadecimal(f"crc32c of shard {self.name!r}", self.crc32c, digits=8)


@dataclasses.dataclass(frozen=True)
class Split:
    """The counts of one split (`train` or `val`).

    `input_tokens` counts every token, with an EOS for each document; `target_tokens` those that some record predicts
    (records x seq_len); `tail_tokens` the others: those of the unfinished record left at the end, which starts at the
    last record's last id. So `target_tokens + tail_tokens == input_tokens`. `text_bytes` is the UTF-8 size of the
    documents. None means unknown: records made elsewhere do not tell what they were cut from (`indexing.py`).

    With the packings `legacy` and `best-fit`, the others are `lost_tokens`, the ids of documents that stand in no
    record, and the EOS of documents that no record predicts; of `legacy`, `false_eos` records begin with an EOS in
    mid-document. Both are 0 otherwise.

    `duplicate_documents` copies of other documents were left out, and the other counts are without them. None means
    that copies were not looked for.

    Raises:
      ValueError: counts that no split can have, or that contradict each other.
    """

    documents: int | None
    text_bytes: int | None
    input_tokens: int | None
    target_tokens: int
    tail_tokens: int | None
    shards: tuple[Shard, ...]
    lost_tokens: int | None = 0
    false_eos: int | None = 0
    duplicate_documents: int | None = None

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.name != "shards" and (count := getattr(self, field.name)) is not None:
                _require_count(field.name, count)
        if None not in (self.input_tokens, self.tail_tokens):
            _require(
                self.target_tokens + self.tail_tokens == self.input_tokens,
                f"target_tokens {self.target_tokens} and tail_tokens {self.tail_tokens} do not make input_tokens "
                f"{self.input_tokens}",
            )
        if None not in (self.documents, self.text_bytes, self.input_tokens):
            self._require_text_to_fit()
        if None not in (self.tail_tokens, self.lost_tokens, self.false_eos):
            self._require_losses_to_fit()
        if None not in (self.documents, self.false_eos, *(shard.documents for shard in self.shards)):
            begun = sum(shard.documents for shard in self.shards) - self.false_eos
            _require(begun <= self.documents, f"{begun} documents begin in shards of {self.documents} documents")

    @property
    def records(self) -> int:
        """How many records all shards hold."""
        return sum(shard.records for shard in self.shards)

    @property
    def target_bytes(self) -> int:
        """The UTF-8 size of the text that all target tokens spell."""
        return sum(shard.target_bytes for shard in self.shards)

    def _require_text_to_fit(self) -> None:
        """Compares counts of tokens and bytes: a token spells at least one byte, EOS none, one EOS a document."""
        _require(
            self.documents <= self.input_tokens,
            f"{self.documents} documents, each of which begins with a token of its own, have {self.input_tokens} "
            "input_tokens",
        )
        _require(
            self.input_tokens - self.documents <= self.text_bytes,
            f"input_tokens {self.input_tokens} of {self.documents} documents spell only {self.text_bytes} text_bytes",
        )
        _require(
            self.target_tokens - self.documents <= self.target_bytes <= self.text_bytes,
            f"target_bytes {self.target_bytes} do not fit target_tokens {self.target_tokens} and text_bytes "
            f"{self.text_bytes}",
        )

    def _require_losses_to_fit(self) -> None:
        """Compares what a packing lost: it is among what no record predicts, and a record begins with one EOS."""
        _require(
            self.lost_tokens <= self.tail_tokens,
            f"lost_tokens {self.lost_tokens} are not among the tail_tokens {self.tail_tokens}",
        )
        _require(self.false_eos <= self.records, f"{self.records} records have false_eos {self.false_eos}")


@dataclasses.dataclass(frozen=True)
class Manifest:
    """Everything training must know about a folder of shards. JSON on disk.

    `record_format` is how a record is stored (`tfrecords.py`). `seed` and `val_fraction` are those of
    `RecordOptions`, and so is `packing`; they are None for records made elsewhere. `skipped` says how much of the input
    was left out because it is no document, by kind; None means that nothing could be. `sources_sha256` is of the file
    that says what the records were made of, the input's files among it; None means that there is no such file.

    Raises:
      ValueError: there is no such `record_format` or `packing`, a value is out of its range, or values contradict each
        other.
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
    packing: str | None = STREAM_PACKING
    skipped: dict[str, int] | None = None
    sources_sha256: str | None = None

    def __post_init__(self) -> None:
        if self.record_format not in RECORD_FORMATS:
            raise ValueError(f"record_format must be one of {RECORD_FORMATS}, received {self.record_format!r}")
        if self.packing not in (*PACKINGS, None):
            raise ValueError(f"packing must be one of {PACKINGS}, received {self.packing!r}")
        _require(self.seq_len >= 1, f"its seq_len is {self.seq_len}, less than 1")
        _require(
            0 < self.vocab_size <= LARGEST_VOCAB_SIZE,
            f"its vocab_size is {self.vocab_size}, not from 1 to {LARGEST_VOCAB_SIZE}",
        )
        _require(
            self.eos_id == self.vocab_size - 1,
            f"its eos_id is {self.eos_id}, not the last of the {self.vocab_size} ids of its vocab_size",
        )
        _require_hexadecimal("tokenizer_sha256", self.tokenizer_sha256, digits=64)
        if self.sources_sha256 is not None:
            _require_hexadecimal("sources_sha256", self.sources_sha256, digits=64)
        if self.val_fraction is not None:
            _require(0 <= self.val_fraction < 1, f"its val_fraction is {self.val_fraction}, not from 0 to below 1")
        for name, split in (("train", self.train), ("val", self.val)):
            _require(
                split.target_tokens == split.records * self.seq_len,
                f"its {name}.target_tokens is {split.target_tokens}, and its shards hold {split.records} records of "
                f"{self.seq_len}",
            )
            losses = (split.input_tokens, split.documents, split.lost_tokens, split.false_eos)
            _require(
                None not in losses if self.packing in LOSSY_PACKINGS else not any(losses[2:]),
                f"its {name} has {split.lost_tokens} lost_tokens and {split.false_eos} false_eos with the packing "
                f"{self.packing}",
            )
        _require_each_once([shard.name for shard in (*self.train.shards, *self.val.shards)])

    def to_json(self) -> str:
        """Returns the file's text, which ends in the SHA-256 of its own content."""
        fields = dataclasses.asdict(self)
        return json.dumps({**fields, CONTENT_HASH: _content_sha256(fields)}, indent=2) + "\n"


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
      UserError: there is none, or it is not one of this version, is changed or contradicts itself.
    """
    path = storage.join(folder, MANIFEST_NAME)
    if not storage.exists(path):
        raise UserError(
            f"a folder of TFRecords must hold {MANIFEST_NAME}, which is written last, and {folder} has none: "
            "it is unfinished, or made elsewhere, which data_tools/index_tfrecords.py mends."
        )
    with json_files.refusing(path, f"be a manifest of format version {FORMAT_VERSION}", REMEDY):
        return parse_manifest(storage.read_bytes(path))


def parse_manifest(data: bytes) -> Manifest:
    """Returns the manifest in a file's content.

    A manifest that an earlier version wrote has no hash of its own content: then only its values are compared with each
    other.

    Raises:
      ValueError: it is not a manifest, or not of this version, or not as it was written.
    """
    fields = json_files.parse_object(data)
    hashes = [fields.pop(CONTENT_HASH)] if CONTENT_HASH in fields else []
    if (version := fields.get("format_version")) != FORMAT_VERSION:
        raise ValueError(f"its format_version is {version}")
    manifest = json_files.build(Manifest, fields)
    _require(
        all(sha256 == _content_sha256(fields) for sha256 in hashes),
        f"its content is not the one whose SHA-256 is its {CONTENT_HASH}, so it was changed after it was written",
    )
    return manifest


def _content_sha256(fields: dict[str, Any]) -> str:
    """Returns the SHA-256, in hexadecimal, of a manifest's fields as JSON with sorted keys and no spaces."""
    return hashlib.sha256(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise ValueError(otherwise)


def _is_file_name(name: str) -> bool:
    """Returns whether a file right in a folder can have this name."""
    try:
        return name not in ("", ".", "..") and not {"/", "\0"} & set(name) and bool(os.fsencode(name))
    except UnicodeEncodeError:  # A lone surrogate, which JSON can spell and no file system can.
        return False


def _require_count(name: str, count: int) -> None:
    _require(count >= 0, f"its {name} is {count}, less than 0")


def _require_hexadecimal(name: str, text: str, digits: int) -> None:
    _require(
        re.fullmatch(f"[0-9a-f]{{{digits}}}", text) is not None,
        f"its {name} is {text!r}, not {digits} hexadecimal digits",
    )


def _require_each_once(names: list[str]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    _require(not twice, f"it lists the shard {twice[0] if twice else ''!r} more than once")
