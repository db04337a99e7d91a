"""Packing: no token is lost, repeated or moved."""

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from algpt2.preparation.packing import Packer, pack_documents, record_count

EOS = 99
DOCUMENTS = st.lists(st.lists(st.integers(0, EOS - 1), max_size=60), max_size=12)


@given(DOCUMENTS, st.integers(1, 20))
@example([], 4)
@example([[]], 4)
@example([[1]], 1)
@example([[1, 2, 3, 4]], 4)
@example([[1, 2, 3]], 4)
@example([list(range(90))], 4)
def test_records_and_tail_spell_the_stream_exactly(documents, seq_len):
    stream = [id_ for document in documents for id_ in [EOS, *document]]
    packer = Packer(seq_len, EOS)
    records = [record for document in documents for record in packer.add(document)]
    targets = [id_ for record in records for id_ in record[1:].tolist()]
    tail = packer.tail.tolist()
    assert all(record.shape == (seq_len + 1,) and record.dtype == np.int32 for record in records)
    assert len(tail) <= seq_len
    assert stream[:1] + targets + (tail[1:] if stream else []) == stream
    assert all(left[-1] == right[0] for left, right in zip(records, [*records[1:], tail], strict=False))
    assert len(records) == record_count(len(stream), seq_len)
    assert len(records) * seq_len + len(tail) == len(stream)


@given(DOCUMENTS, st.integers(1, 20))
def test_the_generator_gives_the_packer_s_records(documents, seq_len):
    packer = Packer(seq_len, EOS)
    expected = [record.tolist() for document in documents for record in packer.add(document)]
    assert [record.tolist() for record in pack_documents(documents, Packer(seq_len, EOS))] == expected


def test_the_end_of_text_id_stands_in_front_of_every_document_and_nowhere_else():
    records = [record.tolist() for record in pack_documents([[1, 2], [], [3]], Packer(4, EOS))]
    assert records == [[EOS, 1, 2, EOS, EOS]]


def test_records_do_not_share_memory():
    first, second = pack_documents(np.arange(8).reshape(1, 8), Packer(4, EOS))
    first[:] = 0
    assert second.tolist() == [3, 4, 5, 6, 7]


def test_uint16_ids_become_int32():
    (record,) = pack_documents([np.array([65535, 7], dtype="<u2")], Packer(2, EOS))
    assert record.tolist() == [EOS, 65535, 7]
