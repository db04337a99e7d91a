"""From a run's configuration to its schedule and its optimizer."""

import dataclasses
from collections.abc import Callable, Mapping

import tensorflow as tf
from keras.optimizers.schedules import LearningRateSchedule

from algpt2.config.training import TrainConfig
from algpt2.model.gpt import GPT
from algpt2.model.sizes import matrix_count
from algpt2.optim.adafactor import Adafactor
from algpt2.optim.adamw import AdamW
from algpt2.optim.base import GlobalGradientOptimizer, is_decayed
from algpt2.optim.muon import Muon
from algpt2.optim.replicas import Replicas
from algpt2.optim.schedules import TokensCosine, WarmupDecay
from algpt2.optim.sharded import ShardedAdamW
from algpt2.optim.sharded_muon import ShardedMuon

# Changes an optimizer that is just created; gets the run's settings, and the target tokens of one global batch.
OptimizerChange = Callable[[GlobalGradientOptimizer, TrainConfig, int], None]


def create_schedule(config: TrainConfig, tokens_per_step: int) -> LearningRateSchedule:
    """Returns the learning-rate schedule of a run.

    Args:
      config: of the training.
      tokens_per_step: target tokens of one global batch.

    Raises:
      UserError: a length in tokens that the run's does not allow.
    """
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


def create_optimizer(config: TrainConfig, model: GPT, replicas: Replicas | None = None) -> GlobalGradientOptimizer:
    """Returns the optimizer of a run, its state created beside the model's parameters.

    Call it in the strategy's scope, so that every replica has the state.

    Args:
      config: of the training.
      model: the run's.
      replicas: to which the state is shared out, if the configuration wants that; None for the strategy's.
    """
    parameters = model.named_parameters()
    shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    schedule = create_schedule(config, config.batch_size * model.config.seq_len)
    optimizer = _unbuilt_optimizer(config, schedule, shapes, replicas or Replicas(tf.distribute.get_strategy()))
    if config.weight_decay:
        not_decayed = [p for name, p in parameters.items() if not is_decayed(name, shapes[name])]
        optimizer.exclude_from_weight_decay(var_list=not_decayed)
    optimizer.build(list(parameters.values()))
    return optimizer


@dataclasses.dataclass(frozen=True)
class OptimizerFactory:
    """Creates a run's optimizer and then makes changes to it, for studies of what no setting of a run makes.

    changes: by their names, in the order in which they are made; none of them leaves it `create_optimizer`.
    replicas: those of `create_optimizer`.
    """

    changes: Mapping[str, OptimizerChange] = dataclasses.field(default_factory=dict)
    replicas: Replicas | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the changes."""
        return tuple(self.changes)

    def __call__(self, config: TrainConfig, model: GPT) -> GlobalGradientOptimizer:
        """Returns the changed optimizer; call it in the strategy's scope."""
        optimizer = create_optimizer(config, model, self.replicas)
        for change in self.changes.values():
            change(optimizer, config, config.batch_size * model.config.seq_len)
        return optimizer


TRAINERS_OWN = OptimizerFactory()


def _unbuilt_optimizer(
    config: TrainConfig, schedule: LearningRateSchedule, shapes: dict[str, tuple[int, ...]], replicas: Replicas
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
            ema_decay=config.ema_decay,
        )
    is_shared_out = config.shard_optimizer_state and replicas.count > 1
    adamw = {
        "beta_1": 0.9 if config.beta_1 is None else config.beta_1,
        "beta_2": config.beta_2,
        "epsilon": config.epsilon,
        "weight_decay": weight_decay,
        "ema_decay": config.ema_decay,
    }
    if config.optimizer == "muon":
        matrices = [matrix_count(name, shape) for name, shape in shapes.items()]
        if is_shared_out:
            return ShardedMuon(schedule, matrices, config.muon_momentum, replicas=replicas, **adamw)
        return Muon(schedule, matrices, config.muon_momentum, **adamw)
    return ShardedAdamW(schedule, replicas=replicas, **adamw) if is_shared_out else AdamW(schedule, **adamw)
