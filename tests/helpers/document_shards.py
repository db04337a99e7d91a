"""Shards of documents in which every id but EOS stands once, so that a token tells where it comes from."""

import numpy as np

from algpt2.records.document_writing import write_document_shard
from algpt2.records.record_set import RecordSet

SEQ_LEN, VOCAB_SIZE = 16, 6000
EOS = VOCAB_SIZE - 1


def write_documents(folder, sizes, seq_len=SEQ_LEN):
    """Writes a shard for each list of sizes, of documents with so many ids behind their EOS; returns the record set.

    Document number n has the ids that follow those of document n - 1.
    """
    files, shards, next_id = [], [], 0
    for number, of_shard in enumerate(sizes):
        documents = []
        for size in of_shard:
            documents.append(np.concatenate([[EOS], np.arange(next_id, next_id + size)]))
            next_id += size
        assert next_id <= EOS
        files.append(f"{folder}/train-{number}.tfrecord")
        block = np.array([len(ids) for ids in documents]), np.concatenate(documents)
        shards.append(write_document_shard(files[-1], [block], np.ones(VOCAB_SIZE, np.int64)))
    return RecordSet(
        *(tuple(files), tuple(shards), str(folder), seq_len, VOCAB_SIZE, EOS),
        tokenizer_sha256="",
        record_format="documents",
    )
