"""The record schema: what is written is what is read, and anything else is an error."""

import re

import numpy as np
import pytest
import tensorflow as tf
from original_records import serialize_ids, serialize_original, write_original, write_serialized

from algpt2.errors import UserError
from algpt2.records.manifest import INPUTS_LABELS_FORMAT
from algpt2.records.tfrecords import (
    ID_RANGE_RULE,
    LABELS_RULE,
    RECORD_LENGTH_RULE,
    assert_ids_below,
    identify_record,
    parse_records,
    read_records,
)

SEQ_LEN = 7


def random_records(count, vocab_size):
    return np.random.default_rng(0).integers(0, vocab_size, (count, SEQ_LEN + 1)).astype(np.int32)


@pytest.mark.parametrize("vocab_size", [300, 65536, 65537, 250_000])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_parsing_gives_back_the_ids_in_a_tf_data_pipeline(vocab_size, count):
    records = random_records(count, vocab_size)
    records[:, 0] = vocab_size - 1
    serialized = tf.constant([serialize_ids(record, vocab_size) for record in records], dtype=tf.string)
    parse = tf.function(
        lambda batch: parse_records(batch, SEQ_LEN, vocab_size), input_signature=[tf.TensorSpec([None], tf.string)]
    )
    ids = parse(serialized)
    assert ids.dtype == tf.int32
    np.testing.assert_array_equal(ids, records)
    assert parse.get_concrete_function().output_shapes.as_list() == [None, SEQ_LEN + 1]


@pytest.mark.parametrize("length", [1, SEQ_LEN, SEQ_LEN + 2, 2 * (SEQ_LEN + 1)])
@pytest.mark.parametrize("in_graph", [True, False])
def test_a_record_of_another_length_is_an_error_not_padded_or_cut(length, in_graph):
    good, other = np.ones(SEQ_LEN + 1), np.ones(length)
    batch = tf.constant([serialize_ids(record, 300) for record in (good, other)])
    parse = lambda serialized: parse_records(serialized, SEQ_LEN, 300)  # noqa: E731
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"{re.escape(RECORD_LENGTH_RULE)} = 8"):
        (tf.function(parse) if in_graph else parse)(batch)


def test_a_record_without_ids_is_an_error():
    with pytest.raises(tf.errors.InvalidArgumentError):
        parse_records(tf.constant([tf.train.Example().SerializeToString()]), SEQ_LEN, 300)


@pytest.mark.parametrize("dtype", [tf.int32, tf.int64])
@pytest.mark.parametrize("in_graph", [True, False])
def test_ids_outside_the_vocabulary_stop_a_graph(dtype, in_graph):
    check = lambda ids: assert_ids_below(ids, 300)  # noqa: E731
    check = tf.function(check) if in_graph else check
    np.testing.assert_array_equal(check(tf.constant([[0, 299]], dtype)), [[0, 299]])
    for bad in (300, -1):
        with pytest.raises(tf.errors.InvalidArgumentError, match=f"{ID_RANGE_RULE} = 300"):
            check(tf.constant([[0, bad]], dtype))


# ------------------------------------------------------------------------------------- the original project's records


def parse_original(serialized, seq_len=SEQ_LEN, in_graph=True):
    parse = lambda batch: parse_records(batch, seq_len, 300, INPUTS_LABELS_FORMAT)  # noqa: E731
    return (tf.function(parse) if in_graph else parse)(tf.constant(serialized, tf.string))


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("in_graph", [True, False])
def test_inputs_and_labels_are_joined_to_the_ids_they_were_cut_from(count, in_graph):
    records = random_records(count, 300)
    ids = parse_original([serialize_original(record) for record in records], in_graph=in_graph)
    assert ids.dtype == tf.int32
    np.testing.assert_array_equal(ids, records)


@pytest.mark.parametrize("static_size", [True, False])
def test_inputs_and_labels_keep_their_static_shape_in_a_tf_data_pipeline(static_size):
    records = random_records(4, 300)
    dataset = tf.data.Dataset.from_tensor_slices([serialize_original(record) for record in records])
    dataset = dataset.batch(2, drop_remainder=static_size)
    dataset = dataset.map(lambda batch: parse_records(batch, SEQ_LEN, 300, INPUTS_LABELS_FORMAT))
    assert dataset.element_spec.shape.as_list() == [2 if static_size else None, SEQ_LEN + 1]
    np.testing.assert_array_equal(np.concatenate(list(dataset)), records)


@pytest.mark.parametrize(
    "lengths", [(0, 0), (SEQ_LEN - 1, SEQ_LEN - 1), (SEQ_LEN, SEQ_LEN - 1), (SEQ_LEN - 1, SEQ_LEN)]
)
@pytest.mark.parametrize("in_graph", [True, False])
def test_inputs_or_labels_of_another_length_are_an_error(lengths, in_graph):
    bad = serialize_original(inputs=np.ones(lengths[0]), labels=np.ones(lengths[1]))
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"{re.escape(RECORD_LENGTH_RULE)} = 8"):
        parse_original([serialize_original(np.ones(SEQ_LEN + 1)), bad], in_graph=in_graph)


def test_lengths_that_are_wrong_but_add_up_over_a_batch_are_an_error():
    records = [serialize_original(np.ones(length + 1)) for length in (SEQ_LEN - 1, SEQ_LEN + 1)]
    with pytest.raises(tf.errors.InvalidArgumentError, match=re.escape(RECORD_LENGTH_RULE)):
        parse_original(records)


@pytest.mark.parametrize("place", [0, 3, SEQ_LEN - 2])
@pytest.mark.parametrize("in_graph", [True, False])
def test_labels_that_are_not_the_inputs_one_id_further_on_are_an_error(place, in_graph):
    ids = np.arange(SEQ_LEN + 1)
    labels = ids[1:].copy()
    labels[place] += 100
    with pytest.raises(tf.errors.InvalidArgumentError, match=LABELS_RULE):
        parse_original([serialize_original(ids), serialize_original(inputs=ids[:-1], labels=labels)], in_graph=in_graph)


@pytest.mark.parametrize("foreign", [300, -1, 2**32 + 5, -(2**32) + 5])
@pytest.mark.parametrize("place", [0, 3, SEQ_LEN])
def test_an_int64_id_beyond_the_vocabulary_never_becomes_one_of_it(foreign, place):
    ids = np.arange(SEQ_LEN + 1)
    ids[place] = foreign
    with pytest.raises(tf.errors.InvalidArgumentError, match=ID_RANGE_RULE):
        parse_original([serialize_original(ids)])


def test_records_of_either_format_are_read_and_identified(tmp_path):
    records = random_records(3, 300)
    write_original(tmp_path / "original.tfrecord", records)
    read = list(read_records(str(tmp_path / "original.tfrecord"), SEQ_LEN, 300, INPUTS_LABELS_FORMAT))
    np.testing.assert_array_equal(read, records)
    for record_format, vocab_size, serialized in (
        ("ids", 300, serialize_ids(records[0], 300)),
        ("ids", 250_000, serialize_ids(records[0], 250_000)),
        ("inputs_labels", 300, serialize_original(records[0])),
    ):
        found_format, ids = identify_record(serialized, vocab_size)
        assert found_format == record_format
        np.testing.assert_array_equal(ids, records[0])


def test_labels_that_are_not_their_inputs_are_named_in_a_users_error(tmp_path):
    bad = serialize_original(inputs=np.ones(SEQ_LEN), labels=np.zeros(SEQ_LEN))
    write_serialized(tmp_path / "bad.tfrecord", [bad])
    with pytest.raises(UserError, match=LABELS_RULE):
        list(read_records(str(tmp_path / "bad.tfrecord"), SEQ_LEN, 300, INPUTS_LABELS_FORMAT))
