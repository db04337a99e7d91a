"""The optimizer step, the same on one device, several replicas, several hosts and TPU cores.

Micro-batches are summed on the replica, then everything is summed over replicas in ONE all-reduce, then the global
gradient is clipped by its global norm, then the optimizer updates. So N replicas of batch B, one replica of batch
N x B, and accumulation give the same parameters.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from keras.optimizers.schedules import LearningRateSchedule

from algpt2.compilation import graph_function
from algpt2.config import GPTConfig
from algpt2.losses import inputs_and_targets, token_nats
from algpt2.model import GPT
from algpt2.muon import Muon, matrices_of
from algpt2.optimizers import Adafactor, AdamW, GlobalGradientOptimizer, clip_by_global_norm, is_decayed
from algpt2.schedules import TokensCosine, WarmupDecay
from algpt2.train_config import TrainConfig

POLICY_OF_DTYPE = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


def create_model(model_config: GPTConfig, config: TrainConfig) -> GPT:
    """Returns the freshly initialised model of a run; call it in the strategy's scope."""
    return GPT(model_config, seed=config.seed, dtype=POLICY_OF_DTYPE[config.compute_dtype])


def create_schedule(config: TrainConfig, tokens_per_step: int) -> LearningRateSchedule:
    """Returns the learning-rate schedule of a run whose global batches have `tokens_per_step` target tokens."""
    warmup_steps = config.warmup_updates(tokens_per_step)
    if config.decay_tokens is not None:
        decay_steps = config.decay_tokens / tokens_per_step
        return TokensCosine(config.learning_rate, warmup_steps, decay_steps, config.final_learning_rate_fraction)
    return WarmupDecay(
        config.learning_rate,
        warmup_steps,
        config.total_steps,
        config.decay,
        config.final_learning_rate_fraction,
        config.cooldown_steps,
        config.cooldown_shape,
    )


def create_optimizer(config: TrainConfig, model: GPT) -> GlobalGradientOptimizer:
    """Returns the optimizer of a run, built for the model's parameters; call it in the strategy's scope."""
    parameters = model.named_parameters()
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    schedule = create_schedule(config, config.batch_size * model.config.seq_len)
    optimizer = _unbuilt_optimizer(config, schedule, shapes)
    if config.weight_decay:
        not_decayed = [p for name, p in parameters.items() if not is_decayed(name, shapes[name])]
        optimizer.exclude_from_weight_decay(var_list=not_decayed)
    optimizer.build(list(parameters.values()))
    return optimizer


def _unbuilt_optimizer(
    config: TrainConfig, schedule: LearningRateSchedule, shapes: dict[str, tuple[int, ...]]
) -> GlobalGradientOptimizer:
    weight_decay = config.weight_decay or None
    if config.optimizer == "adafactor":
        return Adafactor(
            schedule,
            beta_1=config.beta_1,
            multiply_by_parameter_scale=config.multiply_by_parameter_scale,
            relative_step=config.relative_step,
            min_dim_size_to_factor=config.min_dim_size_to_factor,
            weight_decay=weight_decay,
        )
    adamw = {
        "beta_1": 0.9 if config.beta_1 is None else config.beta_1,
        "beta_2": config.beta_2,
        "epsilon": config.epsilon,
        "weight_decay": weight_decay,
    }
    if config.optimizer == "muon":
        matrices = [matrices_of(name, shape) for name, shape in shapes.items()]
        return Muon(schedule, matrices, config.muon_momentum, **adamw)
    return AdamW(schedule, **adamw)


class StepResults(NamedTuple):
    """What consecutive steps came to, one value a step.

    losses: float32 (n_steps,), before each step's update, nats per token over the global batch.
    norms: float32 (n_steps,), of each global gradient before clipping.
    """

    losses: np.ndarray
    norms: np.ndarray


class TrainStep:
    """Runs optimizer steps of one model inside one `tf.function`, compiled by XLA where the config says so."""

    def __init__(self, strategy: tf.distribute.Strategy, model: GPT, config: TrainConfig):
        self.strategy = strategy
        self.model = model
        self.config = config
        self.n_replicas = strategy.num_replicas_in_sync
        self.micro_batch_size = config.micro_batch_size(self.n_replicas)
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
        """Runs `n_steps` steps, the first with 0-based number `first_step`."""
        losses, norms = self._loop(iterator, tf.constant(first_step, tf.int32), tf.constant(n_steps, tf.int32))
        return StepResults(losses.numpy(), norms.numpy())

    def _steps(self, iterator: Any, first_step: tf.Tensor, n_steps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        losses = tf.TensorArray(tf.float32, size=n_steps)
        norms = tf.TensorArray(tf.float32, size=n_steps)
        for i in tf.range(n_steps):
            loss, norm = self.strategy.run(self._replica_step, args=(next(iterator), first_step + i))
            # Both are global already, so every replica holds the same value.
            losses = losses.write(i, self.strategy.experimental_local_results(loss)[0])
            norms = norms.write(i, self.strategy.experimental_local_results(norm)[0])
        return losses.stack(), norms.stack()

    def _replica_step(self, records: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        context = tf.distribute.get_replica_context()
        replica = tf.cast(context.replica_id_in_sync_group, tf.int32)
        loss, gradients = self._gradients(records, step, replica)
        if self.n_replicas > 1:
            loss, *gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, [loss, *gradients])
        return loss, self._update(gradients)

    def _clip_and_update(self, gradients: list[tf.Tensor]) -> tf.Tensor:
        """Returns the gradients' norm before clipping."""
        clipped, norm = clip_by_global_norm(gradients, self.config.clip_norm)
        self.optimizer.apply(clipped, self.parameters)
        return norm

    def _local_gradients(
        self, records: tf.Tensor, step: tf.Tensor, replica: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """int32 (b x accumulation_steps, L + 1) -> this replica's share of the global mean loss, and its gradients."""
        n_micro = self.config.accumulation_steps
        if n_micro == 1:
            return self._micro_batch_gradients(records, step, tf.constant(0), replica)
        length = records.shape[-1]
        micro_batches = tf.reshape(records, (n_micro, self.micro_batch_size, length))

        def add_micro_batch(i: tf.Tensor, loss: tf.Tensor, *gradients: tf.Tensor) -> tuple[tf.Tensor, ...]:
            more_loss, more = self._micro_batch_gradients(micro_batches[i], step, i, replica)
            return i + 1, loss + more_loss, *(a + b for a, b in zip(gradients, more, strict=True))

        zeros = [tf.zeros(parameter.shape) for parameter in self.parameters]
        _, loss, *gradients = tf.while_loop(
            lambda i, *_: i < n_micro, add_micro_batch, (tf.constant(0), tf.constant(0.0), *zeros)
        )
        return loss, gradients

    def _micro_batch_gradients(
        self, records: tf.Tensor, step: tf.Tensor, micro_batch: tf.Tensor, replica: tf.Tensor
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        inputs, targets = inputs_and_targets(records)
        seed = dropout_seed(self.config.seed, step, micro_batch, replica)
        tokens = self.config.batch_size * inputs.shape[1]
        with tf.GradientTape() as tape:
            logits = self.model(inputs, training=True, dropout_seed=seed)
            loss = tf.reduce_sum(token_nats(logits, targets)) / tokens
        gradients = tape.gradient(loss, [parameter.value for parameter in self.parameters])
        return loss, [tf.convert_to_tensor(gradient) for gradient in gradients]


def dropout_seed(seed: int, step: tf.Tensor, micro_batch: tf.Tensor, replica: tf.Tensor) -> tf.Tensor:
    """Returns int32 (2,): the seed of every dropout mask of one micro-batch on one replica, and of no other."""
    folded = tf.constant([seed, 0], tf.int32)
    for number in (step, micro_batch, replica):
        folded = tf.random.experimental.stateless_fold_in(folded, number)
    return folded
