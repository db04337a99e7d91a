"""Ways from documents to packed rows of ids, each a function of a task and a new folder, that are timed in turn."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from algpt2.config.records import RecordOptions
from algpt2.preparation.preparation import make_tfrecords
from algpt2.processes import available_cpus
from algpt2.text.documents import iterate_documents
from algpt2.text.tokenizer import Tokenizer

BATCH_DOCUMENTS = 1024


class Task(NamedTuple):
    """What is prepared: JSON lines with the key `text`, by a tokenizer's folder, in rows of so many target tokens."""

    path: str
    tokenizer: str
    seq_len: int


def ours(task: Task, folder: str, encoder: str = "tokenizers") -> int:
    """Makes TFRecords of both splits, shuffled, and returns the tokens that it read."""
    options = RecordOptions(seq_len=task.seq_len, encoder=encoder)
    counts = make_tfrecords([task.path], task.tokenizer, os.path.join(folder, "ours"), options, available_cpus())
    return counts["train"]["input_tokens"] + counts["val"]["input_tokens"]


def ours_with_gigatoken(task: Task, folder: str) -> int:
    """Does the same with the faster encoder."""
    return ours(task, folder, "gigatoken")


def bare_encoder(task: Task) -> Callable[[Task, str], int]:
    """Returns what encodes texts that are in memory already, on all cores, and does nothing with the ids."""
    texts = [document.text for document in iterate_documents([task.path])]
    tokenizer = Tokenizer.load(task.tokenizer)

    def encode(task: Task, folder: str) -> int:
        batches = (texts[first : first + BATCH_DOCUMENTS] for first in range(0, len(texts), BATCH_DOCUMENTS))
        return sum(len(ids) + 1 for batch in batches for ids in tokenizer.encode_batch(batch))

    return encode


def datasets_script(task: Task, folder: str) -> int:
    """Does it as scripts on Hugging Face's datasets do, and returns the rows: load, shuffle, encode, group, save.

    What is left at the end of each batch of a thousand documents is dropped, as those scripts do.
    """
    import datasets
    import transformers

    datasets.disable_progress_bars()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=os.path.join(task.tokenizer, "tokenizer.json"))
    eos_id = Tokenizer.load(task.tokenizer).eos_id
    length = task.seq_len + 1

    def encode(batch: dict[str, Any]) -> dict[str, Any]:
        return {"ids": [[eos_id, *ids] for ids in tokenizer(batch["text"], add_special_tokens=False)["input_ids"]]}

    def group(batch: dict[str, Any]) -> dict[str, Any]:
        ids = [id_ for document in batch["ids"] for id_ in document]
        return {"ids": [ids[first : first + length] for first in range(0, len(ids) - length + 1, length)]}

    cores = available_cpus()
    documents = datasets.load_dataset("json", data_files=task.path, split="train", cache_dir=folder)
    names = documents.column_names
    encoded = documents.shuffle(seed=0).map(encode, batched=True, num_proc=cores, remove_columns=names)
    rows = encoded.map(group, batched=True, num_proc=cores)
    rows.save_to_disk(os.path.join(folder, "grouped"))
    return len(rows)
