"""Documents to a folder with a trained tokenizer."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from algpt2 import storage
from algpt2.config.options import require
from algpt2.errors import UserError
from algpt2.progress import progress_bar
from algpt2.text.documents import DEFAULT_KEYS, Document, Keys, iterate_documents, require_documents
from algpt2.text.input_files import input_bytes, sized_input_files
from algpt2.text.sampling import BUCKETS, buckets_within, in_buckets
from algpt2.text.tokenizer import Tokenizer, check_vocab_size

DEFAULT_MAX_BYTES = 1 << 30


def train_tokenizer(
    inputs: Sequence[str], vocab_size: int, output: str, keys: Keys = DEFAULT_KEYS, max_bytes: int = DEFAULT_MAX_BYTES
) -> dict[str, Any]:
    """Trains a tokenizer on documents and writes it to a new folder.

    If the documents have more text than `max_bytes`, they are read twice, and a sample is trained on that a hash of
    each text decides. So the tokenizer is the same for the same documents in any files and order, and memory is
    bounded.

    Args:
      inputs: files, folders and patterns of documents, local or gs://.
      vocab_size: ids to make, EOS included.
      output: the new folder, local or gs://.
      keys: what tells documents and their text.
      max_bytes: most UTF-8 bytes to train on.

    Returns:
      `vocab_size` reached, `eos_id`, how many `documents` and UTF-8 `bytes` were trained on, and the tokenizer's
      `sha256`.

    Raises:
      UserError: `vocab_size` below 257 or above 2^24, `max_bytes` below 1, an output folder that already holds
        something, or input that is wrong, has no documents, or none that fits into `max_bytes`.
    """
    check_vocab_size(vocab_size)
    require(max_bytes >= 1, "max_bytes", "at least 1", max_bytes)
    storage.require_empty(output)
    counts = {"documents": 0, "bytes": 0}

    def documents(on_bytes: Callable[[int], Any]) -> Iterator[Document]:
        return require_documents(iterate_documents(inputs, keys.text, on_bytes, separator=keys.separator))

    count = BUCKETS
    if not _surely_within(inputs, max_bytes):
        with progress_bar("measuring documents", "B", input_bytes(inputs)) as progress:
            count = buckets_within(documents(progress.update), max_bytes)
    with progress_bar("reading documents", "B", input_bytes(inputs)) as progress:
        sample = _require_any(in_buckets(documents(progress.update), count), max_bytes)
        tokenizer = Tokenizer.train(_counted_texts(sample, counts), vocab_size)
    tokenizer.save(output)
    return {"vocab_size": tokenizer.vocab_size, "eos_id": tokenizer.eos_id, **counts, "sha256": tokenizer.sha256}


def _surely_within(inputs: Sequence[str], max_bytes: int) -> bool:
    """Returns whether the text is at most so long, without reading it: it is not longer than files that hold it."""
    files = sized_input_files(inputs)
    return not any(file.is_compressed for file in files) and sum(file.size_bytes for file in files) <= max_bytes


def _require_any(documents: Iterable[Document], max_bytes: int) -> Iterator[Document]:
    count = 0
    for count, document in enumerate(documents, start=1):  # noqa: B007
        yield document
    if count == 0:
        raise UserError(
            f"max_bytes must be enough for some documents, received {max_bytes}, and the sample has none: raise it."
        )


def _counted_texts(documents: Iterable[Document], counts: dict[str, int]) -> Iterator[str]:
    for document in documents:
        counts["documents"] += 1
        counts["bytes"] += len(document.utf8)
        yield document.text
