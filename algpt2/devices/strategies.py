"""Which `tf.distribute` strategy a run takes, by `--tpu`, `TF_CONFIG` and the devices at hand."""

import json
import os
import socket

import grpc
import tensorflow as tf
from absl import logging

from algpt2 import storage
from algpt2.devices.chips import device_kind_of
from algpt2.errors import UserError

LOCAL_TPU = "local"
ANSWER_TIMEOUT_SECONDS = 20


def create_strategy(tpu: str | None = None) -> tf.distribute.Strategy:
    """Returns the strategy for the TPU that is asked for, else for several workers, several GPUs, or one device.

    Worker processes learn of each other from the environment variable `TF_CONFIG`, as in every TensorFlow program
    (https://www.tensorflow.org/guide/distributed_training#setting_up_the_tf_config_environment_variable).

    Args:
      tpu: a Cloud TPU's name, `local` on a TPU VM, `grpc://host:port`, or None for no TPU.

    Raises:
      UserError: the TPU cannot be found, reached or initialised, or `TF_CONFIG` does not name this process's place.
    """
    if tpu:
        return _tpu_strategy(tpu)
    if has_several_workers(os.environ.get("TF_CONFIG")):
        return tf.distribute.MultiWorkerMirroredStrategy()
    gpus = tf.config.list_logical_devices("GPU")
    return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()


def is_tpu(strategy: tf.distribute.Strategy | None) -> bool:
    """Returns whether a strategy's replicas are TPU cores, whose code is always compiled by XLA."""
    return isinstance(strategy, tf.distribute.TPUStrategy)


def computes_on_host(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this machine's own CPU makes the steps of a strategy."""
    return not is_tpu(strategy) and not tf.config.list_logical_devices("GPU")


def host_device(strategy: tf.distribute.Strategy) -> str:
    """Returns the name of this machine's own CPU, for `tf.device`.

    With a TPU that is reached over the network, 'CPU:0' alone would name the CPU of the TPU's machine, because
    `experimental_connect_to_cluster` makes that machine the default.
    """
    return "/job:localhost/device:CPU:0" if is_tpu(strategy) else "CPU:0"


def device_kind(strategy: tf.distribute.Strategy) -> str | None:
    """Returns the kind of device (a key of `chips.CHIPS`) that a strategy's replicas run on, or None if it is unknown.

    A TPU VM names its TPU in the environment variable `TPU_ACCELERATOR_TYPE`; a GPU's kind is read from its name.
    """
    if is_tpu(strategy):
        return device_kind_of(os.environ.get("TPU_ACCELERATOR_TYPE"))
    gpus = tf.config.list_physical_devices("GPU")
    return device_kind_of(tf.config.experimental.get_device_details(gpus[0]).get("device_name")) if gpus else None


def require_readable_by_tpu(tpu: str | None, paths: list[str]) -> None:
    """Checks that no path is on a local disk if the TPU, which reads the data, is on another machine.

    Raises:
      UserError: the TPU is named or has an address, and a path does not begin with `gs://`.
    """
    local = [path for path in paths if not storage.is_remote(path)]
    if tpu and tpu != LOCAL_TPU and local:
        raise UserError(
            f"a TPU reached by name or address reads its data from gs:// only, received {local[0]!r}: copy the folder "
            "to a bucket, or run on the TPU VM itself with --tpu local."
        )


def has_several_workers(tf_config: str | None) -> bool:
    """Returns whether the content of `TF_CONFIG` names more than one process.

    Raises:
      UserError: it is not what TensorFlow documents, or this process has no place in it.
    """
    if not tf_config:
        return False
    try:
        fields = json.loads(tf_config)
        tasks, task = fields["cluster"], fields["task"]
        if task["index"] not in range(len(tasks[task["type"]])):
            raise ValueError(f"its task {task} is not in its cluster")
        return sum(map(len, tasks.values())) > 1
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            'TF_CONFIG must be like {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
            f", received {tf_config[:100]!r} ({error!r}): mend or unset it."
        ) from error


def _tpu_strategy(tpu: str) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=tpu)
        _require_answer(tpu, resolver.master())
        if tpu != LOCAL_TPU:
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        strategy = tf.distribute.TPUStrategy(resolver)
    except (OSError, ValueError, RuntimeError, ImportError, tf.errors.OpError) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise UserError(
            f"--tpu must name a TPU that this machine can reach, received {tpu!r} ({reason}): check its name, zone "
            "and state with `gcloud compute tpus tpu-vm list`, or use --tpu local on the TPU VM itself."
        ) from error
    logging.info("TPU %s: %d cores", tpu, strategy.num_replicas_in_sync)
    return strategy


def _require_answer(tpu: str, master: str) -> None:
    """Waits until the address answers a gRPC handshake, and gives up after `ANSWER_TIMEOUT_SECONDS`.

    TensorFlow would wait without end for an address that takes connections and does not speak gRPC.
    """
    if not master.startswith("grpc://"):
        return
    host, _, port = master.removeprefix("grpc://").rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"the address must be grpc://host:port, found {master}")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_TIMEOUT_SECONDS):
        pass  # An address that refuses connections is found out at once here; gRPC would go on trying.
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=ANSWER_TIMEOUT_SECONDS)
        except grpc.FutureTimeoutError as error:
            raise OSError(f"{master} did not answer within {ANSWER_TIMEOUT_SECONDS} s") from error
    logging.info("TPU %s answers at %s", tpu, master)
