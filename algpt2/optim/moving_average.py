"""The moving average of the weights (`ema_decay`) in the place of the weights themselves."""

import contextlib
from collections.abc import Iterator, Mapping

import numpy as np

from algpt2.model.gpt import GPT
from algpt2.optim.base import EMA_SLOT, GlobalGradientOptimizer


def unbiased_averages(averages: Mapping[str, np.ndarray], decay: float, updates: int) -> dict[str, np.ndarray]:
    """Returns the averages divided by 1 - decay^updates, which the factors of all updates so far sum up to.

    The slots begin at zero, so that the average does not depend on the first weights. The division makes up for that,
    as it does for Adam's moments (Kingma & Ba 2015, arXiv:1412.6980).

    Args:
      averages: the optimizer's slots, under the parameters' names.
      decay: `ema_decay`.
      updates: how many there were, at least 1.
    """
    total_weight = 1 - decay**updates
    return {name: (average / total_weight).astype(average.dtype) for name, average in averages.items()}


@contextlib.contextmanager
def averaged_weights(model: GPT, optimizer: GlobalGradientOptimizer) -> Iterator[None]:
    """While entered, the model has the average of its weights; afterwards the very weights that it had before.

    Every process of the strategy must enter it, because an average that is shared out to the replicas is gathered.
    """
    parameters = model.named_parameters()
    weights = {name: np.array(parameter.numpy()) for name, parameter in parameters.items()}
    slots = dict(zip(parameters, optimizer.slots[EMA_SLOT], strict=True))
    averages = {name: slot.numpy() for name, slot in slots.items()}
    updates = int(optimizer.iterations.numpy())  # `int` alone refuses the count that several replicas have
    try:
        for name, value in unbiased_averages(averages, optimizer.ema_decay, updates).items():
            parameters[name].assign(value)
        yield
    finally:
        for name, value in weights.items():
            parameters[name].assign(value)
