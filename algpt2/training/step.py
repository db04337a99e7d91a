"""The optimizer step, the same on one device, several replicas, several hosts and TPU cores.

Micro-batches are summed on the replica, then everything is summed over replicas in ONE all-reduce, then the global
gradient is clipped by its global norm, then the optimizer updates. So N replicas of batch B, one replica of batch
N x B, and accumulation give the same parameters.
"""

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from algpt2.config.model import GPTConfig
from algpt2.config.step_shape import StepShape, shape_at
from algpt2.config.training import TrainConfig
from algpt2.devices.compilation import graph_function
from algpt2.model.gpt import GPT
from algpt2.model.losses import inputs_and_targets, mean_head_nats
from algpt2.optim.base import clip_by_global_norm
from algpt2.optim.create import TRAINERS_OWN, OptimizerFactory
from algpt2.tracking.metrics import StepResults
from algpt2.training.input_progress import Batches, InputProgress
from algpt2.training.spikes import SkipState, is_spike, slide, window_steps

Rows = tf.Tensor | tuple[tf.Tensor, tf.Tensor]
"""A replica's rows of a batch: records, or a pair of those and the weights of their targets."""
POLICY_OF_DTYPE = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


def create_model(model_config: GPTConfig, config: TrainConfig) -> GPT:
    """Returns the freshly initialised model of a run; call it in the strategy's scope."""
    return GPT(model_config, seed=config.seed, dtype=POLICY_OF_DTYPE[config.compute_dtype])


class TrainStep:
    """Runs optimizer steps of one model inside one `tf.function`, compiled by XLA where the config says so.

    It creates the optimizer. What decides which updates are skipped goes in with each call and comes back anew.

    Example:
      config = TrainConfig(total_steps=10, batch_size=8)
      strategy = tf.distribute.get_strategy()
      step = TrainStep(strategy, create_model(load_config("gpt2-tiny"), config), config)
      records = tf.zeros((8, 129), tf.int32)
      batches = iter(tf.data.Dataset.from_tensors(records).repeat())
      results, skips = step(batches, 0, 10, SkipState.before_first_step(config))
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: GPT,
        config: TrainConfig,
        create_optimizer: OptimizerFactory = TRAINERS_OWN,
    ):
        """Takes a model that was made in the strategy's scope.

        Raises:
          UserError: the global batch does not divide into replicas and micro-batches.
        """
        self.strategy = strategy
        self.model = model
        self.config = config
        self.n_replicas = strategy.num_replicas_in_sync
        self.micro_batch_size = config.micro_batch_size(self.n_replicas)
        self.input_progress = InputProgress()
        with strategy.scope():
            self.optimizer = create_optimizer(config, model)
        self.parameters = list(model.named_parameters().values())
        self._gradients = graph_function(self._local_gradients, config.jit_compile, strategy)
        # With several replicas, the optimizer's `apply` enters the strategy's cross-replica context, which a nested
        # compiled function cannot do, so the update stays in the outer graph.
        self._update = self._clip_and_update
        if self.n_replicas == 1:
            self._update = graph_function(self._clip_and_update, config.jit_compile, strategy)
        self._loop = tf.function(self._steps)

    def __call__(
        self, iterator: Batches, first_step: int, n_steps: int, skips: SkipState
    ) -> tuple[StepResults, SkipState]:
        """Runs consecutive steps; returns what they came to, and the skip state for the next call.

        Args:
          iterator: gives global batches, int32 (batch, seq_len + 1), to each replica its rows; or pairs of those and
            the weights of their targets, float32 (batch, seq_len), whose mean over the global batch is 1.
          first_step: 0-based number of the first step.
          n_steps: how many steps; all must have the same shape.
          skips: the state that the step before `first_step` left.
        """
        shape = shape_at(first_step, self.config, self.model.config)
        first, count = tf.constant(first_step, tf.int32), tf.constant(n_steps, tf.int32)
        outputs, window = self._loop(iterator, first, count, tf.constant(skips.window), shape)
        losses, norms, skipped, input_seconds = (output.numpy() for output in outputs)
        results = StepResults(losses, norms, skipped, float(np.sum(input_seconds)))
        return results, skips.after(skipped, window.numpy())

    def learning_rate_of(self, step: int) -> float:
        """Returns the learning rate that the update of a step (0-based) is made with."""
        return self.optimizer.rate_of(step)

    def replica_function(self) -> tuple[Callable[..., tuple[tf.Tensor, ...]], tuple[tf.TensorSpec, ...]]:
        """Returns what each replica runs for one step, for those who compile it themselves, and its arguments."""
        whole = StepShape(self.model.config.seq_len, self.model.config.n_layer)
        batch_shape = (self.micro_batch_size * self.config.accumulation_steps, whole.seq_len + 1)
        window = tf.TensorSpec((2, window_steps(self.config)), tf.float32)

        def replica_step(records: tf.Tensor, step: tf.Tensor, window: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return self._replica_step(records, step, window, whole)

        return replica_step, (tf.TensorSpec(batch_shape, tf.int32), tf.TensorSpec((), tf.int32), window)

    def _steps(
        self, iterator: Batches, first_step: tf.Tensor, n_steps: tf.Tensor, window: tf.Tensor, shape: StepShape
    ) -> tuple[list[tf.Tensor], tf.Tensor]:
        """Returns losses, norms, skipped and input seconds, each (n_steps,), and the window after the last step."""
        losses = tf.TensorArray(tf.float32, size=n_steps)
        norms = tf.TensorArray(tf.float32, size=n_steps)
        skips = tf.TensorArray(tf.bool, size=n_steps)
        input_seconds = tf.TensorArray(tf.float64, size=n_steps)
        replica_step = functools.partial(self._replica_step, shape=shape)
        for i in tf.range(n_steps):
            batch, seconds = self.input_progress.timed_next(iterator)
            results = self.strategy.run(replica_step, args=(batch, first_step + i, window))
            # The all-reduce has made these global, so every replica holds the same values and the first will do.
            loss, norm, skipped = (self.strategy.experimental_local_results(result)[0] for result in results)
            if self.config.skip_spikes:
                window = slide(window, loss, norm, skipped)
            losses, norms, skips = losses.write(i, loss), norms.write(i, norm), skips.write(i, skipped)
            input_seconds = input_seconds.write(i, seconds)
        return [losses.stack(), norms.stack(), skips.stack(), input_seconds.stack()], window

    def _replica_step(
        self, batch: Rows, step: tf.Tensor, window: tf.Tensor, shape: StepShape
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Returns the global loss, the global gradient's norm, and whether the update was skipped."""
        context = tf.distribute.get_replica_context()
        replica = tf.cast(context.replica_id_in_sync_group, tf.int32)
        loss, gradients = self._gradients(tf.nest.flatten(batch), step, replica, shape)
        if self.n_replicas > 1:
            loss, *gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, [loss, *gradients])
        return loss, *self._update(loss, gradients, window)

    def _clip_and_update(
        self, loss: tf.Tensor, gradients: list[tf.Tensor], window: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the gradients' norm before clipping, and whether the update was skipped."""
        clipped, norm = clip_by_global_norm(gradients, self.config.clip_norm)
        skip = is_spike(window, loss, norm, self.config.skip_spikes) if self.config.skip_spikes else None
        # Otherwise what needs no gradient, such as counting the step, might be done for a step that gets no batch.
        with tf.control_dependencies([norm]), self.optimizer.skipping(skip):
            self.optimizer.apply(clipped, self.parameters)
        return norm, tf.constant(False) if skip is None else skip

    def _local_gradients(
        self, parts: list[tf.Tensor], step: tf.Tensor, replica: tf.Tensor, shape: StepShape
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns this replica's share of the global mean loss, and its gradients.

        Args:
          parts: int32 (b x accumulation_steps, L + 1), and float32 (b x accumulation_steps, L) if targets have weights.
          step: 0-based number.
          replica: its number.
          shape: of the step.
        """
        n_micro, rows = self.config.accumulation_steps, self.micro_batch_size
        # The iterators of several workers do not know statically how many rows they give, and XLA must.
        parts = [tf.ensure_shape(part, (n_micro * rows, part.shape[-1])) for part in parts]
        if n_micro == 1:
            return self._micro_batch_gradients(parts, step, tf.constant(0), replica, shape)
        micro_batches = [tf.reshape(part, (n_micro, rows, part.shape[-1])) for part in parts]

        def add_micro_batch(i: tf.Tensor, loss: tf.Tensor, *gradients: tf.Tensor) -> tuple[tf.Tensor, ...]:
            micro_batch = [part[i] for part in micro_batches]
            more_loss, more = self._micro_batch_gradients(micro_batch, step, i, replica, shape)
            return i + 1, loss + more_loss, *(a + b for a, b in zip(gradients, more, strict=True))

        zeros = [tf.zeros(parameter.shape) for parameter in self.parameters]
        _, loss, *gradients = tf.while_loop(
            lambda i, *_: i < n_micro, add_micro_batch, (tf.constant(0), tf.constant(0.0), *zeros)
        )
        return loss, gradients

    def _micro_batch_gradients(
        self, parts: list[tf.Tensor], step: tf.Tensor, micro_batch: tf.Tensor, replica: tf.Tensor, shape: StepShape
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Parts as of `_local_gradients`, (b, ...) -> a micro-batch's share of the global mean loss, its gradients."""
        records, *weights = parts
        inputs, targets = inputs_and_targets(records)
        seed = dropout_seed(self.config.seed, step, micro_batch, replica)
        tokens = self.config.batch_size * inputs.shape[1]
        # While sequences are short, each record is cut into pieces of seq_len, S: (b, L) -> (b L / S, S).
        inputs, targets, *weights = (tf.reshape(part, (-1, shape.seq_len)) for part in (inputs, targets, *weights))
        with tf.GradientTape() as tape:
            hidden = self.model.hidden_states(
                inputs, training=True, dropout_seed=seed, remat=self.config.remat, n_layer=shape.n_layer
            )
            loss = mean_head_nats(hidden, self.model.head_table, targets, tokens, *weights)
        # Layers that have not joined yet have no gradient.
        zero = tf.UnconnectedGradients.ZERO
        gradients = tape.gradient(loss, [parameter.value for parameter in self.parameters], unconnected_gradients=zero)
        return loss, [tf.convert_to_tensor(gradient) for gradient in gradients]


def dropout_seed(seed: int, step: tf.Tensor, micro_batch: tf.Tensor, replica: tf.Tensor) -> tf.Tensor:
    """Returns int32 (2,): the seed of every dropout mask of one micro-batch on one replica, and of no other."""
    folded = tf.constant([seed, 0], tf.int32)
    for number in (step, micro_batch, replica):
        folded = tf.random.experimental.stateless_fold_in(folded, number)
    return folded
