"""The entry of a shard in a manifest, and the checks of a manifest's values."""

import dataclasses
import os
import re
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file: its name in the folder, how many records it holds, its size and its checksum.

    `target_bytes` is the UTF-8 size of the text that its target tokens spell, for bits per byte. `documents` is how
    many documents begin in its records, an EOS at a record's last place not counted, which the next record has again.
    None means that they were not counted, as in manifests of earlier versions.

    A shard of documents, one a record, also has `tokens`, how many ids they have with an EOS for each, and
    `lengths_crc32c`, the checksum of the file of their lengths (`document_lengths.py`); `target_bytes` is then the size
    of their text. Both are None for other records.

    A shard whose targets have weights also has `weighted_targets`, how many of them count; `target_bytes` is then the
    size of the text that these spell, and `documents` how many conversations there are. It is None for other records.

    Raises:
      ValueError: a value is none that a shard can have.
    """

    name: str
    records: int
    size_bytes: int
    crc32c: str
    target_bytes: int
    documents: int | None = None
    tokens: int | None = None
    lengths_crc32c: str | None = None
    weighted_targets: int | None = None

    def __post_init__(self) -> None:
        require(
            _is_file_name(self.name),
            f"a shard's name is {self.name!r}, which is not the name of a file right in the folder",
        )
        for field in ("records", "size_bytes", "target_bytes", "documents", "weighted_targets"):
            require_count(f"{field} of shard {self.name!r}", getattr(self, field) or 0)
        require_hexadecimal(f"crc32c of shard {self.name!r}", self.crc32c, digits=8)
        require(
            (self.tokens is None) == (self.lengths_crc32c is None),
            f"shard {self.name!r} has only one of tokens and lengths_crc32c",
        )
        if self.tokens is not None:
            require(self.tokens >= self.records, f"shard {self.name!r} has fewer tokens than records, each with EOS")
            require_hexadecimal(f"lengths_crc32c of shard {self.name!r}", self.lengths_crc32c, digits=8)


def shard_name(split: str, index: int, count: int) -> str:
    """Returns the name of the file of one of so many shards of a split, by its 0-based number."""
    return f"{split}-{index:05d}-of-{count:05d}.tfrecord"


def row_count(shards: Sequence[Shard], seq_len: int) -> int:
    """Returns how many rows of seq_len + 1 ids an epoch of shards has: each record is one, or documents are packed."""
    if any(shard.tokens is not None for shard in shards):
        return max(0, sum(shard.tokens or 0 for shard in shards) - 1) // seq_len
    return sum(shard.records for shard in shards)


def require(condition: bool, otherwise: str) -> None:
    """Raises `ValueError` with the second sentence where the condition does not hold."""
    if not condition:
        raise ValueError(otherwise)


def require_count(name: str, count: int) -> None:
    """Raises `ValueError` for a count below 0."""
    require(count >= 0, f"its {name} is {count}, less than 0")


def require_hexadecimal(name: str, text: str, digits: int) -> None:
    """Raises `ValueError` for a text that is not that many hexadecimal digits."""
    require(
        re.fullmatch(f"[0-9a-f]{{{digits}}}", text) is not None,
        f"its {name} is {text!r}, not {digits} hexadecimal digits",
    )


def _is_file_name(name: str) -> bool:
    """Returns whether a file right in a folder can have this name."""
    try:
        return name not in ("", ".", "..") and not {"/", "\0"} & set(name) and bool(os.fsencode(name))
    except UnicodeEncodeError:  # A lone surrogate, which JSON can spell and no file system can.
        return False
