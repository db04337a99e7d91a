"""Conversations to a folder of TFRecord shards whose targets have weights: encoded, split, shuffled, packed, written.

One process does it and has all ids in memory: conversations to fine-tune on are few, beside text to pretrain on.
"""

import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from algpt2 import storage
from algpt2.config.chat_records import WHOLE, ChatRecordOptions
from algpt2.config.records import SKIP
from algpt2.errors import UserError
from algpt2.preparation.document_keys import content_digest, is_held_out, order_key
from algpt2.preparation.encoding import TRAIN, VAL
from algpt2.progress import progress_bar
from algpt2.records.manifest import (
    MANIFEST_NAME,
    WEIGHTED_FORMAT,
    Manifest,
    Split,
    counts,
    read_manifest,
    write_manifest,
)
from algpt2.records.shard_entry import Shard, shard_name
from algpt2.records.weighted_writing import write_weighted_shard
from algpt2.text.chat import EncodedConversation, Template, content_bytes
from algpt2.text.conversations import TOO_LONG, Conversation, conversation_files, read_conversations
from algpt2.text.faults import FaultCounts, InputFault, OnFault, kept
from algpt2.text.tokenizer import Tokenizer

OPEN_ROWS = 64
ENCODED_TOGETHER = 1024


class Entry(NamedTuple):
    """A conversation that is taken: the key of its place, its ids and weights, and the UTF-8 size of its contents."""

    key: bytes
    encoded: EncodedConversation
    text_bytes: int


def make_chat_tfrecords(
    inputs: Sequence[str], tokenizer_folder: str, output: str, options: ChatRecordOptions
) -> dict[str, Any]:
    """Writes `train-*` and `val-*` shards, the tokenizer with the chat tokens, and `manifest.json` to a new folder.

    The files are the same, byte for byte, for the same conversations in any files and order. Exact copies of a
    conversation land in the same split.

    Args:
      inputs: files, folders and patterns of JSON lines, local or gs://.
      tokenizer_folder: of the tokenizer, to which the chat tokens are added unless it has them.
      output: the new folder, local or gs://; it appears whole or not at all.
      options: how conversations become records.

    Returns:
      The manifest's counts.

    Raises:
      UserError: the output folder holds something; the tokenizer or a conversation is wrong; a conversation does not
        fit into a record; or there are too few of them.
    """
    storage.require_empty(output)
    tokenizer = Tokenizer.load(tokenizer_folder).with_chat_tokens()
    faults = FaultCounts()
    skipping = faults.add if options.on_error == SKIP else None
    entries = sorted_entries(inputs, Template(tokenizer), options, skipping)
    with storage.writing_folder(output, MANIFEST_NAME) as folder:
        writer = _Writer(folder, tokenizer, options)
        splits = {name: writer.write_split(name, found) for name, found in entries.items()}
        tokenizer.save(folder)
        skipped = faults.told() if skipping else None
        write_manifest(folder, _manifest(tokenizer, options, skipped, splits))
    return counts(read_manifest(output))


def sorted_entries(
    inputs: Sequence[str], template: Template, options: ChatRecordOptions, on_fault: OnFault | None
) -> dict[str, list[Entry]]:
    """Returns the conversations of each split in the order of their keys.

    Args:
      inputs: files, folders and patterns of JSON lines.
      template: which gives the ids.
      options: how conversations become records.
      on_fault: called with what is no conversation or is too long; None means that it is raised.

    Raises:
      UserError: nothing at a path, or what is no conversation.
    """
    entries: dict[str, list[Entry]] = {TRAIN: [], VAL: []}
    files = conversation_files(inputs)
    with progress_bar("encoding", "B", sum(file.size_bytes for file in files)) as progress:
        for file in files:
            for some in _in_groups(read_conversations(file, on_fault)):
                encoded = template.encode_batch([conversation.messages for conversation in some])
                for conversation, of_it in zip(some, encoded, strict=True):
                    digest = _digest(conversation)
                    split = VAL if is_held_out(digest, options.val_fraction) else TRAIN
                    key = order_key(digest, options.seed)
                    entries[split] += kept(on_fault, _entry, conversation, key, of_it, options.seq_len)
            progress.update(file.size_bytes)
    return {split: sorted(found, key=lambda entry: entry.key) for split, found in entries.items()}


def _digest(conversation: Conversation) -> bytes:
    return content_digest(json.dumps(conversation.messages, ensure_ascii=False, separators=(",", ":")).encode())


def _in_groups(conversations: Iterator[Conversation]) -> Iterator[list[Conversation]]:
    """Yields conversations some at a time, because each call of the tokenizer wakes threads on all cores."""
    while some := list(itertools.islice(conversations, ENCODED_TOGETHER)):
        yield some


def _entry(conversation: Conversation, key: bytes, encoded: EncodedConversation, seq_len: int) -> Entry:
    if len(encoded.ids) > seq_len + 1:
        raise InputFault(
            TOO_LONG,
            conversation.file,
            f"a conversation must fit into a record of {seq_len + 1} ids, and {conversation.place} has "
            f"{len(encoded.ids)}: raise --seq_len, part it, or leave it out with --on_error {SKIP}.",
        )
    return Entry(key, encoded, content_bytes(conversation.messages))


def packed_rows(lengths: Iterable[int], capacity: int) -> Iterator[list[int]]:
    """Yields which items, by their numbers, stand in each row: an item goes to the first open row that has room.

    Args:
      lengths: of the items, each at most `capacity`.
      capacity: of a row. At most `OPEN_ROWS` rows are open; the oldest is closed for another.
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for number, length in enumerate(lengths):
        place = next((i for i, left in enumerate(room) if left >= length), None)
        if place is None:
            if len(rows) == OPEN_ROWS:
                yield rows.pop(0)
                room.pop(0)
            rows.append([])
            room.append(capacity)
            place = -1
        rows[place].append(number)
        room[place] -= length
    yield from rows


def filled_row(
    conversations: Iterable[EncodedConversation], seq_len: int, eos_id: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns a record of conversations, int32 (seq_len + 1,), filled up with EOS, and its targets' weights, uint8."""
    ids, weights = np.full(seq_len + 1, eos_id, np.int32), np.zeros(seq_len + 1, np.uint8)
    start = 0
    for one in conversations:
        end = start + len(one.ids)
        ids[start:end], weights[start:end] = one.ids, one.weights
        start = end
    return ids, weights[1:]


@dataclasses.dataclass(frozen=True)
class _Writer:
    """Where shards go, and how they are made."""

    folder: str
    tokenizer: Tokenizer
    options: ChatRecordOptions

    def write_split(self, name: str, entries: list[Entry]) -> Split:
        """Writes a split's shards; returns its entry in the manifest."""
        lengths = [len(entry.encoded.ids) for entry in entries]
        rows = [[number] for number in range(len(lengths))]
        if self.options.packing == WHOLE:
            rows = list(packed_rows(lengths, self.options.seq_len + 1))
        return Split(
            documents=len(entries),
            text_bytes=sum(entry.text_bytes for entry in entries),
            input_tokens=sum(lengths),
            target_tokens=len(rows) * self.options.seq_len,
            tail_tokens=None if rows else 0,
            shards=self._write_shards(name, [[entries[number].encoded for number in row] for row in rows]),
        )

    def _write_shards(self, name: str, rows: list[list[EncodedConversation]]) -> tuple[Shard, ...]:
        count = self.options.num_shards if name == TRAIN else self.options.num_val_shards
        if len(rows) < count:
            raise UserError(
                f"a split must have at least {count} records, one a shard, and the {name} split has {len(rows)}: name "
                "more conversations, or change --num_shards or --val_fraction (0 holds nothing out)."
            )
        bounds = [len(rows) * index // max(count, 1) for index in range(count + 1)]
        of_shards = [rows[first:end] for first, end in itertools.pairwise(bounds)]
        names = [shard_name(name, index, count) for index in range(count)]
        return tuple(map(self._write_shard, names, of_shards))

    def _write_shard(self, name: str, rows: list[list[EncodedConversation]]) -> Shard:
        eos_id = self.tokenizer.eos_id
        filled = [filled_row(row, self.options.seq_len, eos_id) for row in rows]
        records, weights = (np.stack(column) for column in zip(*filled, strict=True))
        path = storage.join(self.folder, name)
        return write_weighted_shard(path, records, weights, self.tokenizer.token_byte_lengths(), eos_id)


def _manifest(
    tokenizer: Tokenizer, options: ChatRecordOptions, skipped: dict[str, int] | None, splits: dict[str, Split]
) -> Manifest:
    return Manifest(
        seq_len=options.seq_len,
        vocab_size=tokenizer.vocab_size,
        eos_id=tokenizer.eos_id,
        tokenizer_sha256=tokenizer.sha256,
        seed=options.seed,
        val_fraction=options.val_fraction,
        record_format=WEIGHTED_FORMAT,
        packing=options.packing,
        skipped=skipped,
        **splits,
    )
