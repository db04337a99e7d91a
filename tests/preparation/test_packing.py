"""Packing: no token is lost, repeated or moved."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from one_by_one import Packer

from algpt2.preparation.packing import record_blocks, record_count

EOS = 99
DOCUMENTS = st.lists(st.lists(st.integers(0, EOS - 1), max_size=60), max_size=12)


def records_of(pieces, seq_len):
    return [record for block in record_blocks(map(np.array, pieces), seq_len) for record in block]


@given(DOCUMENTS, st.integers(1, 20))
@example([], 4)
@example([[]], 4)
@example([[1]], 1)
@example([[1, 2, 3, 4]], 4)
@example([[1, 2, 3]], 4)
@example([list(range(90))], 4)
def test_records_and_tail_spell_the_stream_exactly(documents, seq_len):
    pieces = [[EOS, *document] for document in documents]
    stream = [id_ for piece in pieces for id_ in piece]
    records = records_of(pieces, seq_len)
    targets = [int(id_) for record in records for id_ in record[1:]]
    assert all(record.shape == (seq_len + 1,) for record in records)
    assert stream[:1] + targets == stream[: 1 + len(targets)] if records else not targets
    assert all(left[-1] == right[0] for left, right in zip(records, records[1:], strict=False))
    assert len(stream) - len(records) * seq_len <= seq_len
    assert len(records) == record_count(len(stream), seq_len)


@given(DOCUMENTS, st.integers(1, 20))
def test_records_are_those_of_packing_one_document_after_the_other(documents, seq_len):
    packer = Packer(seq_len, EOS)
    expected = [record.tolist() for document in documents for record in packer.add(document)]
    found = records_of([[EOS, *document] for document in documents], seq_len)
    assert [record.tolist() for record in found] == expected


def test_a_record_begins_with_the_last_id_of_the_one_before():
    assert [record.tolist() for record in records_of([[EOS, 1, 2, EOS, EOS, 3], [4, 5, 6]], 4)] == [
        [EOS, 1, 2, EOS, EOS],
        [EOS, 3, 4, 5, 6],
    ]
