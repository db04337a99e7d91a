"""Batches of an input pipeline, as arrays."""

import tensorflow as tf


def context(hosts=1, host=0, replicas=1):
    """Returns what a strategy tells the input pipeline of one host."""
    return tf.distribute.InputContext(hosts, host, replicas)


def take(dataset, count):
    """Returns the first batches of a dataset."""
    return [batch.numpy() for batch in dataset.take(count)]
