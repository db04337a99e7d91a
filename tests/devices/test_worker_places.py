"""Which process of a cluster is the chief, and what makes a run one of several workers."""

import json

import pytest
import tensorflow as tf

from algpt2.devices import strategies
from algpt2.devices.workers import Workers
from algpt2.errors import UserError

CLUSTER = {"chief": ["host:1"], "worker": ["host:2", "host:3"]}


class StandIn(tf.distribute.MultiWorkerMirroredStrategy):
    """A strategy that knows its place in a cluster and has started nothing."""

    def __init__(self, cluster, task_type, task_id):
        self._place = tf.distribute.cluster_resolver.SimpleClusterResolver(
            tf.train.ClusterSpec(cluster), task_type=task_type, task_id=task_id
        )

    @property
    def cluster_resolver(self):
        return self._place


def chiefs(cluster):
    """Returns (type, index) of every process that takes itself for the chief."""
    tasks = [(task_type, index) for task_type, hosts in cluster.items() for index in range(len(hosts))]
    workers = {task: Workers(StandIn(cluster, *task)) for task in tasks}
    assert {one.count for one in workers.values()} == {len(tasks)}
    return [task for task, one in workers.items() if one.is_chief]


def test_one_process_of_a_cluster_is_its_chief_because_two_would_write_the_same_files():
    assert chiefs(CLUSTER) == [("chief", 0)]
    assert chiefs({"worker": CLUSTER["worker"]}) == [("worker", 0)]


@pytest.mark.parametrize("tasks", [{"worker": ["localhost:1"]}, {"chief": ["localhost:1"]}])
def test_a_cluster_of_one_process_is_a_run_of_one_process(tasks, monkeypatch):
    (task_type,) = tasks
    fields = {"cluster": tasks, "task": {"type": task_type, "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(fields))
    assert not isinstance(strategies.create_strategy(), tf.distribute.MultiWorkerMirroredStrategy)


class TpuStandIn(tf.distribute.TPUStrategy):
    """A strategy that is of a TPU, and has none."""

    def __init__(self):
        pass


def test_the_hosts_own_cpu_is_named_in_full_beside_a_tpu():
    """With a TPU that is reached over the network, 'CPU:0' would be the CPU of the TPU's machine."""
    assert strategies.host_device(TpuStandIn()) == "/job:localhost/device:CPU:0"
    assert strategies.host_device(tf.distribute.get_strategy()) == "CPU:0"


def test_only_the_chiefs_value_counts_where_all_must_take_it(monkeypatch):
    """The workers' values are summed, so that of every other worker must be 0."""
    sent = []
    monkeypatch.setattr(Workers, "total", lambda self, value: sent.append(value) or 0.0)
    for task in (("chief", 0), ("worker", 0), ("worker", 1)):
        Workers(StandIn(CLUSTER, *task)).from_chief(7)
    assert sent == [7, 0, 0]


@pytest.mark.parametrize("paths", [["/disk/train", "gs://bucket/val"], ["gs://bucket/train", "/disk/val"]])
def test_any_path_that_a_distant_tpu_cannot_read_is_refused(paths):
    with pytest.raises(UserError, match="received '/disk/"):
        strategies.require_readable_by_tpu("v3-8", paths)
