"""The optimizer step, the same on one device, several replicas, several hosts and TPU cores.

Micro-batches are summed on the replica, then everything is summed over replicas in ONE all-reduce, then the global
gradient is clipped by its global norm, then the optimizer updates. So N replicas of batch B, one replica of batch
N x B, and accumulation give the same parameters.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from algpt2.config.model import GPTConfig
from algpt2.config.seq_len_warmup import seq_len_at
from algpt2.config.training import TrainConfig
from algpt2.devices.compilation import graph_function
from algpt2.model.gpt import GPT
from algpt2.model.losses import inputs_and_targets, mean_head_nats
from algpt2.optim.base import clip_by_global_norm
from algpt2.optim.create import create_optimizer
from algpt2.tracking.metrics import StepResults
from algpt2.training.spikes import SkipState, is_spike, slide

POLICY_OF_DTYPE = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


def create_model(model_config: GPTConfig, config: TrainConfig) -> GPT:
    """Returns the freshly initialised model of a run; call it in the strategy's scope."""
    return GPT(model_config, seed=config.seed, dtype=POLICY_OF_DTYPE[config.compute_dtype])


class TrainStep:
    """Runs optimizer steps of one model inside one `tf.function`, compiled by XLA where the config says so."""

    def __init__(self, strategy: tf.distribute.Strategy, model: GPT, config: TrainConfig):
        self.strategy = strategy
        self.model = model
        self.config = config
        self.n_replicas = strategy.num_replicas_in_sync
        self.micro_batch_size = config.micro_batch_size(self.n_replicas)
        self.skips = SkipState.empty(config.spike_window_steps if config.skip_spikes else 0)
        with strategy.scope():
            self.optimizer = create_optimizer(config, model)
        self.parameters = list(model.named_parameters().values())
        self._gradients = graph_function(self._local_gradients, config.jit_compile, strategy)
        # With several replicas the update crosses into the strategy, which a graph of its own cannot do.
        self._update = self._clip_and_update
        if self.n_replicas == 1:
            self._update = graph_function(self._clip_and_update, config.jit_compile, strategy)
        self._loop = tf.function(self._steps)

    def __call__(self, iterator: Any, first_step: int, n_steps: int) -> StepResults:
        """Runs `n_steps` steps, the first with 0-based number `first_step`, all of the same sequence length."""
        seq_len = seq_len_at(first_step, self.config, self.model.config.seq_len)
        first, count = tf.constant(first_step, tf.int32), tf.constant(n_steps, tf.int32)
        outputs, window = self._loop(iterator, first, count, tf.constant(self.skips.window), seq_len)
        self.skips.window = window.numpy()
        losses, norms, skipped, input_seconds = (output.numpy() for output in outputs)
        return StepResults(losses, norms, skipped, float(np.sum(input_seconds)))

    def replica_function(self) -> tuple[Callable[..., Any], tuple[tf.TensorSpec, ...]]:
        """Returns what each replica runs for one step, for those who compile it themselves, and its arguments."""
        seq_len = self.model.config.seq_len
        shape = (self.micro_batch_size * self.config.accumulation_steps, seq_len + 1)
        window = tf.TensorSpec(self.skips.window.shape, tf.float32)

        def replica_step(records: tf.Tensor, step: tf.Tensor, window: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return self._replica_step(records, step, window, seq_len)

        return replica_step, (tf.TensorSpec(shape, tf.int32), tf.TensorSpec((), tf.int32), window)

    def _steps(
        self, iterator: Any, first_step: tf.Tensor, n_steps: tf.Tensor, window: tf.Tensor, seq_len: int
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Returns losses, norms, skipped and input seconds, each (n_steps,), and the window after the last step."""
        losses = tf.TensorArray(tf.float32, size=n_steps)
        norms = tf.TensorArray(tf.float32, size=n_steps)
        skips = tf.TensorArray(tf.bool, size=n_steps)
        input_seconds = tf.TensorArray(tf.float64, size=n_steps)
        replica_step = functools.partial(self._replica_step, seq_len=seq_len)
        for i in tf.range(n_steps):
            records, seconds = timed_next(iterator)
            results = self.strategy.run(replica_step, args=(records, first_step + i, window))
            # All are global already, so every replica holds the same values.
            loss, norm, skipped = (self.strategy.experimental_local_results(result)[0] for result in results)
            if self.config.skip_spikes:
                window = slide(window, loss, norm, skipped)
            losses, norms, skips = losses.write(i, loss), norms.write(i, norm), skips.write(i, skipped)
            input_seconds = input_seconds.write(i, seconds)
        return [losses.stack(), norms.stack(), skips.stack(), input_seconds.stack()], window

    def _replica_step(
        self, records: tf.Tensor, step: tf.Tensor, window: tf.Tensor, seq_len: int
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the global loss, the global gradient's norm, and whether the update was skipped."""
        context = tf.distribute.get_replica_context()
        replica = tf.cast(context.replica_id_in_sync_group, tf.int32)
        loss, gradients = self._gradients(records, step, replica, seq_len)
        if self.n_replicas > 1:
            loss, *gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, [loss, *gradients])
        return loss, *self._update(loss, gradients, window)

    def _clip_and_update(
        self, loss: tf.Tensor, gradients: list[tf.Tensor], window: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the gradients' norm before clipping, and whether the update was skipped."""
        clipped, norm = clip_by_global_norm(gradients, self.config.clip_norm)
        skip = is_spike(window, loss, norm, self.config.skip_spikes) if self.config.skip_spikes else None
        with self.optimizer.skipping(skip):
            self.optimizer.apply(clipped, self.parameters)
        return norm, tf.constant(False) if skip is None else skip

    def _local_gradients(
        self, records: tf.Tensor, step: tf.Tensor, replica: tf.Tensor, seq_len: int
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """int32 (b x accumulation_steps, L + 1) -> this replica's share of the global mean loss, and its gradients."""
        n_micro, length = self.config.accumulation_steps, records.shape[-1]
        # Several workers' iterators do not know how many rows they give.
        records = tf.ensure_shape(records, (n_micro * self.micro_batch_size, length))
        if n_micro == 1:
            return self._micro_batch_gradients(records, step, tf.constant(0), replica, seq_len)
        micro_batches = tf.reshape(records, (n_micro, self.micro_batch_size, length))

        def add_micro_batch(i: tf.Tensor, loss: tf.Tensor, *gradients: tf.Tensor) -> tuple[tf.Tensor, ...]:
            more_loss, more = self._micro_batch_gradients(micro_batches[i], step, i, replica, seq_len)
            return i + 1, loss + more_loss, *(a + b for a, b in zip(gradients, more, strict=True))

        zeros = [tf.zeros(parameter.shape) for parameter in self.parameters]
        _, loss, *gradients = tf.while_loop(
            lambda i, *_: i < n_micro, add_micro_batch, (tf.constant(0), tf.constant(0.0), *zeros)
        )
        return loss, gradients

    def _micro_batch_gradients(
        self, records: tf.Tensor, step: tf.Tensor, micro_batch: tf.Tensor, replica: tf.Tensor, seq_len: int
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        inputs, targets = inputs_and_targets(records)
        seed = dropout_seed(self.config.seed, step, micro_batch, replica)
        tokens = self.config.batch_size * inputs.shape[1]
        # (b, L) -> (b L / l, l)
        inputs, targets = (tf.reshape(ids, (-1, seq_len)) for ids in (inputs, targets))
        with tf.GradientTape() as tape:
            hidden = self.model.hidden_states(inputs, training=True, dropout_seed=seed, remat=self.config.remat)
            loss = mean_head_nats(hidden, self.model.wte, targets, tokens)
        gradients = tape.gradient(loss, [parameter.value for parameter in self.parameters])
        return loss, [tf.convert_to_tensor(gradient) for gradient in gradients]


def timed_next(iterator: Any) -> tuple[Any, tf.Tensor]:
    """Returns an iterator's next value, and the seconds that it took to come, float64 ()."""
    start = tf.timestamp()
    with tf.control_dependencies([start]):
        value = next(iterator)
    with tf.control_dependencies(tf.nest.flatten(value, expand_composites=True)):
        return value, tf.timestamp() - start


def dropout_seed(seed: int, step: tf.Tensor, micro_batch: tf.Tensor, replica: tf.Tensor) -> tf.Tensor:
    """Returns int32 (2,): the seed of every dropout mask of one micro-batch on one replica, and of no other."""
    folded = tf.constant([seed, 0], tf.int32)
    for number in (step, micro_batch, replica):
        folded = tf.random.experimental.stateless_fold_in(folded, number)
    return folded
