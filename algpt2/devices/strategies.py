"""From `--tpu` and the devices at hand to a `tf.distribute` strategy."""

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
    """Returns the strategy for a TPU, for several workers, for several GPUs, or for the one device there is.

    Several worker processes are told of each other by `TF_CONFIG`, as for every TensorFlow program.

    Args:
      tpu: a Cloud TPU's name, `local` on a TPU VM, `grpc://host:port`, or None for no TPU.

    Raises:
      UserError: the TPU cannot be found, reached or initialised, or `TF_CONFIG` is not what it must be.
    """
    if tpu:
        return _tpu_strategy(tpu)
    if _has_several_workers(os.environ.get("TF_CONFIG")):
        return tf.distribute.MultiWorkerMirroredStrategy()
    gpus = tf.config.list_logical_devices("GPU")
    return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()


def is_tpu(strategy: tf.distribute.Strategy | None) -> bool:
    """Returns whether a strategy's replicas are TPU cores, whose code is always compiled by XLA."""
    return isinstance(strategy, tf.distribute.TPUStrategy)


def host_device(strategy: tf.distribute.Strategy) -> str:
    """Returns the device that is this machine's CPU.

    Where a TPU is reached over the network, 'CPU:0' alone means that of the TPU's machine, which
    `experimental_connect_to_cluster` makes the default.
    """
    return "/job:localhost/device:CPU:0" if is_tpu(strategy) else "CPU:0"


def device_kind(strategy: tf.distribute.Strategy) -> str | None:
    """Returns on what kind of device (a key of `flops.CHIPS`) a strategy's replicas are, or None if that is not known.

    A TPU VM says what it drives in TPU_ACCELERATOR_TYPE, a GPU in its name.
    """
    if is_tpu(strategy):
        return device_kind_of(os.environ.get("TPU_ACCELERATOR_TYPE"))
    gpus = tf.config.list_physical_devices("GPU")
    return device_kind_of(tf.config.experimental.get_device_details(gpus[0]).get("device_name")) if gpus else None


def require_readable_by_tpu(tpu: str | None, paths: list[str]) -> None:
    """Raises `UserError` for data on a local disk that a TPU on another machine cannot see."""
    local = [path for path in paths if not storage.is_remote(path)]
    if tpu and tpu != LOCAL_TPU and local:
        raise UserError(
            f"a TPU reached by name or address reads its data from gs:// only, received {local[0]!r}: copy the folder "
            "to a bucket, or run on the TPU VM itself with --tpu local."
        )


def _has_several_workers(tf_config: str | None) -> bool:
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
    """Waits for a gRPC handshake: TensorFlow itself would wait without end for an address that does not speak it."""
    if not master.startswith("grpc://"):
        return
    host, _, port = master.removeprefix("grpc://").rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"the address must be grpc://host:port, found {master}")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_TIMEOUT_SECONDS):
        pass  # an address that refuses does so at once, and gRPC would go on trying
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=ANSWER_TIMEOUT_SECONDS)
        except grpc.FutureTimeoutError as error:
            raise OSError(f"{master} did not answer within {ANSWER_TIMEOUT_SECONDS} s") from error
    logging.info("TPU %s answers at %s", tpu, master)
