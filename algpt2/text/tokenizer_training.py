"""Documents to a folder with a trained tokenizer."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from algpt2 import storage
from algpt2.progress import progress_bar
from algpt2.text.documents import Document, iterate_documents, require_documents
from algpt2.text.input_files import input_bytes
from algpt2.text.separator import Separator
from algpt2.text.tokenizer import Tokenizer, check_vocab_size


def train_tokenizer(
    inputs: Sequence[str], vocab_size: int, output: str, text_key: str = "text", separator: Separator | None = None
) -> dict[str, Any]:
    """Trains a tokenizer on documents and writes it to a new folder.

    Args:
      inputs: files, folders and patterns of documents, local or gs://.
      vocab_size: ids to make, EOS included.
      output: the new folder, local or gs://.
      text_key: the JSON key, or Parquet column, of the text.
      separator: what stands between the documents of a plain text file; None means that it is one document.

    Returns:
      `vocab_size` reached, `eos_id`, how many `documents` and UTF-8 `bytes` were read, and the tokenizer's `sha256`.

    Raises:
      UserError: `vocab_size` below 257 or above 2^24, an output folder that already holds something, or input that is
        wrong or has no documents.
    """
    check_vocab_size(vocab_size)
    storage.require_empty(output)
    counts = {"documents": 0, "bytes": 0}
    with progress_bar("reading documents", "B", input_bytes(inputs)) as progress:
        documents = iterate_documents(inputs, text_key, progress.update, separator=separator)
        tokenizer = Tokenizer.train(_counted_texts(require_documents(documents), counts), vocab_size)
    tokenizer.save(output)
    return {"vocab_size": tokenizer.vocab_size, "eos_id": tokenizer.eos_id, **counts, "sha256": tokenizer.sha256}


def _counted_texts(documents: Iterable[Document], counts: dict[str, int]) -> Iterator[str]:
    for document in documents:
        counts["documents"] += 1
        counts["bytes"] += len(document.utf8)
        yield document.text
