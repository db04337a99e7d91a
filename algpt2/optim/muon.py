"""Muon: momentum whose matrices are orthogonalised, for the kernels inside blocks; AdamW for everything else."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from algpt2.optim.adamw import AdamW

NEWTON_SCHULZ_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_ITERATIONS = 5
UPDATE_RMS = 0.2


class Muon(AdamW):
    """Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon), its step scaled as in Moonlight (arXiv:2502.16982).

    For a kernel with gradient g, momentum mu and 1 or more matrices side by side, each of R rows and C columns:
    m = mu m + (1 - mu) g;  u = orthogonalised((1 - mu) g + mu m), matrix by matrix (Nesterov's momentum);
    p = p - lr (0.2 sqrt(max(R, C)) u + weight_decay p).
    So every element moves by about 0.2 lr (RMS), as it does in AdamW, and both share learning rate and weight decay.
    """

    def __init__(
        self,
        learning_rate: Any,
        matrices: Sequence[int],
        momentum: float = 0.95,
        name: str = "muon",
        **kwargs: Any,
    ):
        """Args beside AdamW's, which are for the other variables.

        Args:
          learning_rate: for all variables.
          matrices: for every variable, in the order of `build`, how many matrices it holds side by side; 0 means that
            AdamW updates it. See `matrices_of`.
          momentum: mu.
          name: name of the optimizer.
          kwargs: `beta_1`, `beta_2`, `epsilon`, `weight_decay` and what every Keras optimizer takes.
        """
        super().__init__(learning_rate, name=name, **kwargs)
        self.matrices = list(matrices)
        self.momentum = momentum

    def _create_slots(self, var_list: list[keras.Variable]) -> None:
        """Momentum for kernels, both of Adam's moments for all other variables."""
        self.slots = {"momentum": [], "first_moment": [], "second_moment": []}
        for variable, n_matrices in zip(var_list, self.matrices, strict=True):
            shape = tuple(variable.shape)
            self._add_slot("momentum", variable, shape if n_matrices else None)
            self._add_slot("first_moment", variable, None if n_matrices else shape)
            self._add_slot("second_moment", variable, None if n_matrices else shape)

    def _update(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        n_matrices = self.matrices[self._get_variable_index(variable)]
        if not n_matrices:
            super()._update(gradient, variable, learning_rate)
            return
        momentum = self._slot("momentum", variable)
        self.assign(momentum, self.momentum * momentum + (1 - self.momentum) * gradient)
        ahead = (1 - self.momentum) * gradient + self.momentum * momentum
        separate = split_columns(ahead, n_matrices)
        scale = UPDATE_RMS * max(separate.shape[-2:]) ** 0.5
        self.assign_sub(variable, learning_rate * scale * merge_columns(orthogonalised(separate)))

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs."""
        return {**super().get_config(), "matrices": self.matrices, "momentum": self.momentum}


def matrices_of(name: str, shape: tuple[int, ...]) -> int:
    """Returns how many matrices, side by side, Muon finds in a parameter; 0 leaves it to AdamW.

    The kernels of attention and feed-forward parts are Muon's. `c_attn` (D, 3D) holds three, query, key and value,
    which act apart. Orthogonalised as one they would have D singular values to share, and the part with the largest
    gradients would take most of them; apart, each takes a full step.
    """
    if not name.startswith("h.") or len(shape) != 2:
        return 0
    return 3 if name.endswith("attn.c_attn.weight") else 1


def orthogonalised(x: Any) -> Any:
    """Returns the matrices of x (..., R, C) with singular values of about 1 and the singular vectors that they have.

    Five Newton-Schulz iterations of an odd polynomial, steep at 0: singular values of at least 1/500 of the matrix's
    (Frobenius) norm end between 0.68 and 1.21, smaller ones below.
    """
    wide = x.shape[-2] <= x.shape[-1]
    x = x if wide else _transposed(x)
    x = x / (ops.sqrt(ops.sum(ops.square(x), axis=(-2, -1), keepdims=True)) + 1e-7)
    a, b, c = NEWTON_SCHULZ_COEFFICIENTS
    for _ in range(NEWTON_SCHULZ_ITERATIONS):
        gram = ops.matmul(x, _transposed(x))
        x = a * x + ops.matmul(b * gram + c * ops.matmul(gram, gram), x)
    return x if wide else _transposed(x)


def split_columns(x: Any, n: int) -> Any:
    """(R, n C) -> (n, R, C)."""
    rows, columns = x.shape
    return ops.transpose(ops.reshape(x, (rows, n, columns // n)), (1, 0, 2))


def merge_columns(x: Any) -> Any:
    """(n, R, C) -> (R, n C)."""
    n, rows, columns = x.shape
    return ops.reshape(ops.transpose(x, (1, 0, 2)), (rows, n * columns))


def _transposed(x: Any) -> Any:
    return ops.swapaxes(x, -2, -1)
