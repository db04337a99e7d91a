"""Muon: momentum whose matrices are orthogonalised, for the kernels inside blocks; AdamW for everything else."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from algpt2.model.tensors import Tensor
from algpt2.optim.adamw import AdamW
from algpt2.optim.base import LearningRate

NEWTON_SCHULZ_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_ITERATIONS = 5
UPDATE_RMS = 0.2


@keras.saving.register_keras_serializable(package="algpt2")
class Muon(AdamW):
    """Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon), its step scaled as in Moonlight (arXiv:2502.16982).

    For a kernel with gradient g, momentum mu and one or more matrices side by side, each of R rows and C columns:
    m = mu m + (1 - mu) g;  u = orthogonalised((1 - mu) g + mu m), matrix by matrix (Nesterov's momentum);
    p = p - lr (0.2 sqrt(max(R, C)) u + weight_decay p).
    An element then moves by about 0.2 lr (RMS), as it does under AdamW, so both share learning rate and weight decay.

    Example:

    >>> import algpt2
    >>> from algpt2.model.sizes import matrix_count
    >>> from algpt2.optim.muon import Muon
    >>> parameters = algpt2.GPT.from_preset("algpt2-tiny").named_parameters()
    >>> counts = {name: matrix_count(name, tuple(p.shape)) for name, p in parameters.items()}
    >>> counts["wte.weight"], counts["h.0.attn.c_attn.weight"], counts["h.0.mlp.c_fc.weight"]
    (0, 3, 1)
    >>> optimizer = Muon(learning_rate=0.01, matrices=list(counts.values()))
    >>> optimizer.build(list(parameters.values()))
    """

    def __init__(
        self,
        learning_rate: LearningRate,
        matrices: Sequence[int],
        momentum: float = 0.95,
        name: str = "muon",
        **kwargs: Any,
    ):
        """Makes the optimizer, its state not yet created.

        Args:
          learning_rate: of all variables: a number, or a schedule of it.
          matrices: for every variable, in the order of `build`, how many matrices it holds side by side, as
            `matrix_count` says; 0 leaves it to AdamW.
          momentum: mu, in [0, 1).
          name: name of the optimizer.
          kwargs: `beta_1`, `beta_2` and `epsilon` of AdamW, `weight_decay` and what else every Keras optimizer takes.
        """
        super().__init__(learning_rate, name=name, **kwargs)
        self.matrices = list(matrices)
        self.momentum = momentum

    def _create_slots(self, var_list: list[keras.Variable]) -> None:
        """Creates momentum for kernels, and both of Adam's moments for all other variables."""
        self.slots = {"momentum": [], "first_moment": [], "second_moment": []}
        for variable, n_matrices in zip(var_list, self.matrices, strict=True):
            shape = tuple(variable.shape)
            self._add_slot("momentum", variable, shape if n_matrices else None)
            self._add_slot("first_moment", variable, None if n_matrices else shape)
            self._add_slot("second_moment", variable, None if n_matrices else shape)

    def _update(self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor) -> None:
        n_matrices = self.matrices[self._get_variable_index(variable)]
        if not n_matrices:
            super()._update(gradient, variable, learning_rate)
            return
        separate = split_columns(self._ahead(self._slot("momentum", variable), gradient), n_matrices)
        scale = step_scale(separate.shape)
        self.assign_sub(variable, learning_rate * scale * merge_columns(orthogonalised(separate)))

    def _ahead(self, momentum: keras.Variable, gradient: Tensor) -> Tensor:
        """Takes a gradient into a momentum; returns the momentum with the gradient once more, as Nesterov's has it."""
        self.assign(momentum, self.momentum * momentum + (1 - self.momentum) * gradient)
        return (1 - self.momentum) * gradient + self.momentum * momentum

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs."""
        return {**super().get_config(), "matrices": self.matrices, "momentum": self.momentum}


def orthogonalised(x: Tensor) -> Tensor:
    """Returns the matrices of x (..., R, C) with the same singular vectors, and singular values of about 1.

    Five Newton-Schulz iterations apply an odd polynomial, steep at 0, to the singular values of x over its Frobenius
    norm (Jordan et al. 2024). Those of at least 1/500 end between 0.68 and 1.21, smaller ones below.
    """
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else _transposed(x)
    x = x / (ops.sqrt(ops.sum(ops.square(x), axis=(-2, -1), keepdims=True)) + 1e-7)
    a, b, c = NEWTON_SCHULZ_COEFFICIENTS
    for _ in range(NEWTON_SCHULZ_ITERATIONS):
        gram = ops.matmul(x, _transposed(x))
        x = a * x + ops.matmul(b * gram + c * ops.matmul(gram, gram), x)
    return x if wide else _transposed(x)


def step_scale(shape: Sequence[int]) -> float:
    """Returns by what orthogonalised matrices of a shape (..., R, C) are multiplied for a step, besides the rate."""
    return UPDATE_RMS * max(shape[-2:]) ** 0.5


def split_columns(x: Tensor, n: int) -> Tensor:
    """(R, n C) -> (n, R, C)."""
    rows, columns = x.shape
    return ops.transpose(ops.reshape(x, (rows, n, columns // n)), (1, 0, 2))


def merge_columns(x: Tensor) -> Tensor:
    """(n, R, C) -> (R, n C)."""
    n, rows, columns = x.shape
    return ops.reshape(ops.transpose(x, (1, 0, 2)), (rows, n * columns))


def _transposed(x: Tensor) -> Tensor:
    """(..., R, C) -> (..., C, R)."""
    return ops.swapaxes(x, -2, -1)
