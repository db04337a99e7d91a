"""Documents to a folder with a trained tokenizer."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from algpt2 import storage
from algpt2.config.options import require
from algpt2.config.records import SKIP, STOP
from algpt2.progress import progress_bar
from algpt2.storage.versions import versions_of
from algpt2.text.documents import DEFAULT_KEYS, Document, Keys, documents_of_piece, require_documents
from algpt2.text.faults import FaultCounts, OnFault
from algpt2.text.input_files import Piece, sized_input_files
from algpt2.text.read_parts import require_versions
from algpt2.text.sampling import BUCKETS, buckets_within, in_buckets
from algpt2.text.tokenizer import Tokenizer, check_vocab_size
from algpt2.text.tokenizer_files import TOKENIZER_NAME

DEFAULT_MAX_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True)
class TextOptions:
    """Which text a tokenizer is trained on.

    Attributes:
      keys: what tells documents and their text.
      max_bytes: most UTF-8 bytes to train on.
      on_error: what is done with input that is no document, "stop" or "skip".

    Raises:
      UserError: `max_bytes` is below 1, or there is no such `on_error`.
    """

    keys: Keys = DEFAULT_KEYS
    max_bytes: int = DEFAULT_MAX_BYTES
    on_error: str = STOP

    def __post_init__(self) -> None:
        require(self.max_bytes >= 1, "max_bytes", "at least 1", self.max_bytes)
        require(self.on_error in (STOP, SKIP), "on_error", f"{STOP} or {SKIP}", self.on_error)


def train_tokenizer(
    inputs: Sequence[str],
    vocab_size: int,
    output: str,
    options: TextOptions = TextOptions(),  # noqa: B008, it is frozen
) -> dict[str, Any]:
    """Trains a tokenizer on documents and writes it to a new folder.

    If the documents have more text than they may, they are read twice, and a sample is trained on that a hash of
    each text decides. So the tokenizer is the same for the same documents in any files and order, and memory is
    bounded.

    Args:
      inputs: files, folders and patterns of documents, local or gs://.
      vocab_size: ids to make, EOS included.
      output: the new folder, local or gs://.
      options: which text of them.

    Returns:
      `vocab_size` reached, `eos_id`, how many `documents` and UTF-8 `bytes` were trained on, the tokenizer's `sha256`,
      and where input may be skipped how much of it was, by kind, in `skipped`.

    Raises:
      UserError: `vocab_size` below 257 or above 2^24, an output folder that holds something when it begins or
        ends, or input that is wrong, has no documents, or none that fits into `max_bytes`, or changes while it is
        read.
    """
    check_vocab_size(vocab_size)
    storage.require_empty(output)
    text, faults, counts = Piece(tuple(sized_input_files(inputs))), FaultCounts(), {"documents": 0, "bytes": 0}
    files = [file.path for file in text.files]
    versions = versions_of(files)

    def documents(on_bytes: Callable[[int], Any], on_fault: OnFault) -> Iterator[Document]:
        skipping = on_fault if options.on_error == SKIP else None
        return require_documents(documents_of_piece(text, options.keys, on_bytes, skipping))

    count = BUCKETS
    if not _surely_within(text, options.max_bytes):
        with progress_bar("measuring documents", "B", text.size_bytes) as progress:
            count = buckets_within(documents(progress.update, lambda fault: None), options.max_bytes)
    with progress_bar("reading documents", "B", text.size_bytes) as progress:
        sample = require_documents(
            in_buckets(documents(progress.update, faults.add), count),
            f"max_bytes must be enough for some documents, received {options.max_bytes}, and the sample has none: "
            "raise it.",
        )
        tokenizer = Tokenizer.train(_counted_texts(sample, counts), vocab_size)
    require_versions(files, versions)
    with storage.writing_folder(output, TOKENIZER_NAME) as folder:  # Another process may have written there meanwhile.
        tokenizer.save(folder)
    result = {"vocab_size": tokenizer.vocab_size, "eos_id": tokenizer.eos_id, **counts, "sha256": tokenizer.sha256}
    return result | ({"skipped": faults.told()} if options.on_error == SKIP else {})


def _surely_within(text: Piece, max_bytes: int) -> bool:
    """Returns whether the text is at most so long, without reading it: it is not longer than files that hold it."""
    return not any(file.is_compressed for file in text.files) and text.size_bytes <= max_bytes


def _counted_texts(documents: Iterable[Document], counts: dict[str, int]) -> Iterator[str]:
    for document in documents:
        counts["documents"] += 1
        counts["bytes"] += len(document.utf8)
        yield document.text
