"""A look into a folder of TFRecord shards: its counts and its first records as text."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from algpt2 import storage
from algpt2.config import options
from algpt2.config.records import DOCUMENTS_FORMAT
from algpt2.errors import UserError, shown
from algpt2.records.document_reading import read_documents
from algpt2.records.manifest import Manifest, counts, read_manifest
from algpt2.records.record_set import load_tokenizer, require_checksum, require_size
from algpt2.records.recounting import RecordFault
from algpt2.records.shard_entry import Shard
from algpt2.records.tfrecords import read_records

COUNT = options.count(0)


def inspect(folder: str, split: str, count: int) -> dict[str, Any]:
    """Returns the counts of a folder's manifest, and the first `count` records of `split` (`train` or `val`) as text.

    Raises:
      UserError: `count` is negative or above 2^31, the folder has no manifest or another tokenizer, or a shard that is
        shown is missing or damaged.
    """
    if not COUNT.holds(count):
        raise UserError(f"count must be {COUNT.text}, received {shown(count)}: 1 shows one.")
    manifest = read_manifest(folder)
    tokenizer = load_tokenizer(folder, manifest.tokenizer_sha256)
    records = itertools.islice(_records(folder, manifest, split), count)
    texts = [{"shard": shard, "text": tokenizer.decode(ids)} for shard, ids in records]
    return {**counts(manifest), "records": texts}


def _records(folder: str, manifest: Manifest, split: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (shard's name, ids); a shard is checked when its first record is asked for."""
    for shard in getattr(manifest, split).shards:
        file = storage.join(folder, shard.name)
        require_size(file, shard)
        require_checksum(file, shard)
        for ids in _of_shard(file, shard, manifest):
            yield shard.name, ids


def _of_shard(file: str, shard: Shard, manifest: Manifest) -> Iterator[np.ndarray]:
    record_format = manifest.format_of(shard)
    if record_format != DOCUMENTS_FORMAT:
        yield from read_records(file, manifest.seq_len, manifest.vocab_size, record_format)
        return
    try:
        yield from (batch.ids for batch in read_documents(file, manifest.vocab_size, size=1))
    except RecordFault as fault:
        raise UserError(f"{fault}: {fault.remedy}.") from fault
