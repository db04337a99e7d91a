"""The shards that a command line names, checked against their manifests."""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Sequence

from algpt2 import storage
from algpt2.config.chat_records import WHOLE
from algpt2.config.records import DOCUMENTS_FORMAT, LEGACY_PACKING, LOSSY_PACKINGS
from algpt2.errors import UserError
from algpt2.records.document_lengths import LENGTH_DTYPE, lengths_path, missing_lengths
from algpt2.records.manifest import IDS_FORMAT, WEIGHTED_FORMAT, Manifest, Split, read_manifest
from algpt2.records.record_bytes import frame_bytes, id_dtype
from algpt2.records.shard_entry import Shard, row_count
from algpt2.storage.versions import Version, versions_of
from algpt2.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class RecordSet:
    """Shards to read, in order, and what their manifests say of them.

    `fingerprint` names the content, wherever it lies: equal fingerprints mean equal records in equal order.
    `folder` is the first folder, which holds the tokenizer too. `losses` has a sentence for each folder whose packing
    lost tokens. `packs_conversations` is whether a record may hold several, each of which must not see the others.
    `versions` are those of the files whose content was checked, none if it was not.
    """

    files: tuple[str, ...]
    shards: tuple[Shard, ...]
    folder: str
    seq_len: int
    vocab_size: int
    eos_id: int
    tokenizer_sha256: str
    record_format: str = IDS_FORMAT
    losses: tuple[str, ...] = dataclasses.field(default=(), compare=False)
    packs_conversations: bool = False
    versions: tuple[Version, ...] = dataclasses.field(default=(), repr=False, compare=False)

    @property
    def records(self) -> int:
        """How many records of seq_len + 1 ids an epoch has: those of the shards, or the rows that documents fill."""
        return row_count(self.shards, self.seq_len)

    @property
    def target_bytes(self) -> int:
        """How many UTF-8 bytes all target tokens spell that count in a loss."""
        return sum(shard.target_bytes for shard in self.shards)

    @property
    def target_count(self) -> int:
        """How many targets of an epoch count in a loss: all, or those whose weight is 1."""
        if self.record_format == WEIGHTED_FORMAT:
            return sum(shard.weighted_targets for shard in self.shards)
        return self.records * self.seq_len

    @property
    def record_bytes(self) -> int | None:
        """How many bytes each record takes in its shard; None if that is not told by the shards' sizes."""
        size = frame_bytes(self.seq_len, id_dtype(self.vocab_size))
        is_told = self.record_format == IDS_FORMAT and all(
            shard.size_bytes == shard.records * size for shard in self.shards
        )
        return size if is_told else None

    @property
    def folders(self) -> list[str]:
        """Where the shards are."""
        return sorted(set(map(storage.parent, self.files)))

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of the shards' checksums and counts and the tokenizer's hash."""
        content = [[shard.crc32c, shard.records] for shard in self.shards]
        text = json.dumps([self.tokenizer_sha256, self.seq_len, content])
        return hashlib.sha256(text.encode()).hexdigest()


def open_record_set(paths: Sequence[str], split: str, check_content: bool = True) -> RecordSet:
    """Returns the shards that the paths name, in the order given.

    Args:
      paths: folders made by data_tools/make_tfrecords.py or indexed, of which the shards of `split` are taken, or shard
        files or patterns of them.
      split: `train` or `val`.
      check_content: whether to compare every shard's checksum, for which a shard on a disk is read. Without it, only
        the sizes are compared: enough where the records are counted and not used.

    Raises:
      UserError: nothing there, no manifest, a shard that the manifest does not list, folders that disagree, no
        records, or a shard that is missing, truncated or changed.
    """
    manifests: dict[str, Manifest] = {}
    found = [pair for path in paths for pair in _named_shards(path, split, manifests)]
    folder, manifest = next(iter(manifests.items()))
    if not row_count([shard for _, shard in found], manifest.seq_len):
        raise UserError(f"--{split}_path must name shards with records, and {', '.join(paths)} has no {split} records.")
    files = tuple(storage.join(folder, shard.name) for folder, shard in found)
    _require_each_once(files)
    record_format = _agreed_format(found, manifests)
    _require_usable(record_format, split, paths)
    versions = versions_of(files) if check_content else ()  # before the check, which may find them changed already
    for file, (_, shard) in zip(files, found, strict=True):
        require_size(file, shard)
        if check_content:
            require_checksum(file, shard)
    return RecordSet(
        files=files,
        shards=tuple(shard for _, shard in found),
        folder=folder,
        seq_len=manifest.seq_len,
        vocab_size=manifest.vocab_size,
        eos_id=manifest.eos_id,
        tokenizer_sha256=manifest.tokenizer_sha256,
        record_format=record_format,
        losses=tuple(
            _loss(folder, split, manifest)
            for folder, manifest in manifests.items()
            if manifest.packing in LOSSY_PACKINGS
        ),
        packs_conversations=any(manifest.packing == WHOLE for manifest in manifests.values()),
        versions=versions,
    )


def load_tokenizer(folder: str, sha256: str) -> Tokenizer:
    """Returns the tokenizer that lies beside records.

    Raises:
      UserError: there is none, or it is not the one they were made with, whose SHA-256 the manifest has.
    """
    tokenizer = Tokenizer.load(folder)
    if tokenizer.sha256 != sha256:
        raise UserError(
            f"the tokenizer beside records must be the one they were made with, and in {folder} it is another "
            f"({tokenizer.sha256[:8]}, not {sha256[:8]}): copy the folder again."
        )
    return tokenizer


def require_size(file: str, shard: Shard) -> None:
    """Raises `UserError` unless a shard is there, with its documents' lengths, and has the size by the manifest."""
    _require_file_size(
        file,
        shard.size_bytes,
        UserError(f"every shard that the manifest lists must be there, and {file} is missing: copy it again."),
    )
    if shard.tokens is not None:
        lengths = lengths_path(file)
        _require_file_size(lengths, shard.records * LENGTH_DTYPE.itemsize, missing_lengths(lengths))


def _require_file_size(file: str, size_bytes: int, if_missing: UserError) -> None:
    try:
        size = storage.of(file).size_bytes(file)
    except FileNotFoundError as error:
        raise if_missing from error
    if size != size_bytes:
        raise UserError(f"{file} must have {size_bytes} bytes and has {size}: it is truncated; copy it again.")


def require_checksum(file: str, shard: Shard) -> None:
    """Raises `UserError` unless a shard has the CRC32C that the manifest says; a file on a disk is read for it."""
    _require_file_checksum(file, shard.crc32c)
    if shard.lengths_crc32c is not None:
        _require_file_checksum(lengths_path(file), shard.lengths_crc32c)


def _require_file_checksum(file: str, expected: str) -> None:
    if (checksum := storage.of(file).crc32c(file)) != expected:
        raise UserError(f"{file} must have CRC32C {expected} and has {checksum}: it is damaged; copy it again.")


def _named_shards(path: str, split: str, manifests: dict[str, Manifest]) -> list[tuple[str, Shard]]:
    """Returns (folder, shard) pairs; reads each folder's manifest once, into `manifests`."""
    if not storage.of(path).is_file(path) and not storage.is_pattern(path):
        if not storage.exists(path):
            raise UserError(f"--{split}_path must name an existing folder or shard, and nothing is at {path!r}.")
        folder = storage.trim(path)
        return [(folder, shard) for shard in getattr(_manifest_of(folder, manifests), split).shards]
    return [_listed_shard(file, manifests) for file in storage.expand(path)]


def _manifest_of(folder: str, manifests: dict[str, Manifest]) -> Manifest:
    if folder not in manifests:
        manifests[folder] = read_manifest(folder)
    return manifests[folder]


def _listed_shard(file: str, manifests: dict[str, Manifest]) -> tuple[str, Shard]:
    """Returns (folder, shard) of a file. It may be of either split: it is for the user to say what is trained on."""
    folder, name = storage.parent(file), storage.base_name(file)
    manifest = _manifest_of(folder, manifests)
    for shard in (*manifest.train.shards, *manifest.val.shards):
        if shard.name == name:
            return folder, shard
    raise UserError(f"a shard must be listed in its folder's manifest, and {file} is not: name the folder instead.")


def _loss(folder: str, name: str, manifest: Manifest) -> str:
    """Returns what a packing that loses tokens did to a split, as a sentence."""
    split: Split = getattr(manifest, name)
    lost = f"{split.lost_tokens / max(1, split.input_tokens - split.documents):.1%} of the text's tokens are in none"
    if manifest.packing == LEGACY_PACKING:
        return (
            f"the {name} records in {folder} are packed as in 2020: {lost} of them, and {split.false_eos} of "
            f"{split.records} begin with a false end of text"
        )
    return f"the {name} records in {folder} each begin with a document: {lost} of them, because documents were cropped"


def _require_each_once(files: tuple[str, ...]) -> None:
    twice = sorted(file for file, count in Counter(files).items() if count > 1)
    if twice:
        raise UserError(
            f"every shard may be named once, and {twice[0]} is named more often: leave out one of the paths."
        )


def _agreed_format(found: list[tuple[str, Shard]], manifests: dict[str, Manifest]) -> str:
    """Returns the format of the records of all shards, which must agree in all else that training needs, too."""
    kinds = dict.fromkeys((folder, manifests[folder].format_of(shard)) for folder, shard in found)
    of_folders = [(folder, manifests[folder], record_format) for folder, record_format in kinds]
    keys = {(m.seq_len, m.vocab_size, m.tokenizer_sha256, record_format) for _, m, record_format in of_folders}
    if len(keys) > 1:
        described = ", ".join(
            f"{folder} (seq_len {m.seq_len}, vocab_size {m.vocab_size}, tokenizer {m.tokenizer_sha256[:8]}, "
            f"record_format {record_format})"
            for folder, m, record_format in of_folders
        )
        raise UserError(f"all folders must have the same seq_len, tokenizer and record_format, received {described}.")
    return of_folders[0][-1]


def _require_usable(record_format: str, split: str, paths: Sequence[str]) -> None:
    if split == "val" and record_format == DOCUMENTS_FORMAT:
        raise UserError(
            f"--val_path must name packed records, as the val records of every folder are, and {', '.join(paths)} has "
            "documents, one a record: name a folder with a val split."
        )
