"""A look into a folder of TFRecord shards: its counts and its first records as text."""

import itertools
from typing import Any

from algpt2 import storage
from algpt2.errors import UserError
from algpt2.manifest import counts, read_manifest
from algpt2.tfrecords import read_records
from algpt2.tokenizer import Tokenizer


def inspect(folder: str, split: str, count: int) -> dict[str, Any]:
    """Returns the counts of a folder's manifest, and the first `count` records of `split` (`train` or `val`) as text.

    Raises:
      UserError: `count` is negative, or the folder has no manifest or no tokenizer.
    """
    if count < 0:
        raise UserError(f"count must be at least 0 records, received {count}: 1 shows one.")
    manifest = read_manifest(folder)
    tokenizer = Tokenizer.load(folder)
    texts = (
        {"shard": shard.name, "text": tokenizer.decode(ids)}
        for shard in getattr(manifest, split).shards
        for ids in read_records(storage.join(folder, shard.name), manifest.seq_len, manifest.vocab_size)
    )
    return {**counts(manifest), "records": list(itertools.islice(texts, count))}
