"""Muon whose state and orthogonalisation are shared out: each replica has some of the matrices."""

import dataclasses
from collections.abc import Iterator, Sequence

import keras
import numpy as np
from keras import ops

from algpt2.model.tensors import Tensor, TensorLike
from algpt2.optim.base import EMA_SLOT, host_copies
from algpt2.optim.muon import Muon, merge_columns, orthogonalised, split_columns, step_scale
from algpt2.optim.replicas import Replicas
from algpt2.optim.sharded import ShardedAdamW, SharedOutVariable


@dataclasses.dataclass(frozen=True)
class KernelLayout:
    """How a kernel's matrices stand side by side in it, and as a stack of matrices that are no higher than wide.

    Attributes:
      shape: of the kernel, (R, n C).
      n_matrices: n.
    """

    shape: tuple[int, int]
    n_matrices: int

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Of one matrix in the stack: R and C, the smaller one first."""
        rows, columns = self.shape[0], self.shape[1] // self.n_matrices
        return min(rows, columns), max(rows, columns)

    def matrices(self, kernel: TensorLike) -> Tensor:
        """Returns a kernel's matrices as a stack, (n, *matrix_shape)."""
        return self._turned(split_columns(kernel, self.n_matrices))

    def kernel(self, matrices: TensorLike) -> Tensor:
        """Returns the kernel, (R, n C), that a stack of matrices makes."""
        return merge_columns(self._turned(matrices))

    def _turned(self, matrices: TensorLike) -> Tensor:
        is_tall = self.shape[0] * self.n_matrices > self.shape[1]
        return ops.swapaxes(matrices, -2, -1) if is_tall else matrices


class KernelGroup:
    """Kernels whose matrices have one shape. Each replica keeps the momentum of some of these matrices.

    Attributes:
      places: of the kernels among all kernels, 0-based.
      momentum: of all matrices, one behind the other.
    """

    def __init__(self, replicas: Replicas, layouts: dict[int, KernelLayout]):
        """Creates the momentum, zero; call it in the strategy's scope.

        Args:
          replicas: among which the matrices are shared out.
          layouts: of the kernels, by their places.
        """
        self.places = list(layouts)
        self._layouts = list(layouts.values())
        shape = self._layouts[0].matrix_shape
        shape_of_all = (sum(layout.n_matrices for layout in self._layouts), *shape)
        self.momentum = SharedOutVariable(replicas, shape_of_all, f"momentum_{'x'.join(map(str, shape))}", shape)

    def stack(self, kernels: Sequence[TensorLike]) -> Tensor:
        """Returns the matrices of all kernels of the group, one behind the other."""
        pairs = zip(self._layouts, kernels, strict=True)
        return ops.concatenate([layout.matrices(kernel) for layout, kernel in pairs])

    def kernels(self, stack: TensorLike) -> dict[int, Tensor]:
        """Returns the kernels, by their places, that a stack of matrices makes."""
        found, first = {}, 0
        for place, layout in zip(self.places, self._layouts, strict=True):
            found[place] = layout.kernel(stack[first : first + layout.n_matrices])
            first += layout.n_matrices
        return found

    def state_of_kernels(self) -> dict[int, "KernelMomentum"]:
        """Returns the momentum of each kernel, by its place."""
        firsts = np.cumsum([0, *(layout.n_matrices for layout in self._layouts)])
        rows = zip(self.places, self._layouts, firsts[:-1], strict=True)
        return {place: KernelMomentum(layout, self.momentum, int(first)) for place, layout, first in rows}


@dataclasses.dataclass(frozen=True)
class KernelMomentum:
    """The momentum of one kernel, as a checkpoint sees it.

    layout: of the kernel.
    momentum: of all matrices of its group.
    first: the place of its first matrix among these.
    """

    layout: KernelLayout
    momentum: SharedOutVariable
    first: int

    dtype = SharedOutVariable.dtype

    @property
    def shape(self) -> tuple[int, int]:
        """That of the kernel."""
        return self.layout.shape

    def numpy(self) -> np.ndarray:
        """Returns it, on the host. Every process of the strategy must call it."""
        matrices = self.momentum.numpy()[self.first : self.first + self.layout.n_matrices]
        return np.asarray(self.layout.kernel(matrices))

    def assign(self, kernel: np.ndarray) -> None:
        """Sets it, on the replicas that hold its matrices."""
        self.momentum.assign_units(self.first, np.asarray(self.layout.matrices(kernel)))


@keras.saving.register_keras_serializable(package="algpt2")
class ShardedMuon(ShardedAdamW, Muon):
    """Muon (`Muon` has the formula), of whose matrices each replica orthogonalises some, and keeps their momentum.

    What Muon leaves to AdamW, and the moving average, are shared out as `ShardedAdamW` does.
    """

    def _create_slots(self, var_list: list[keras.Variable]) -> None:
        others = [variable for variable, n in zip(var_list, self.matrices, strict=True) if not n]
        super()._create_slots(others)
        kernels = [KernelLayout(tuple(v.shape), n) for v, n in zip(var_list, self.matrices, strict=True) if n]
        self._groups = _groups(self._replicas, kernels)
        momentum = {place: one for group in self._groups for place, one in group.state_of_kernels().items()}
        of_kernels = [momentum[place] for place in range(len(kernels))]
        self.slots["momentum"] = self._in_order(of_kernels, [None] * len(others))
        for name in ("first_moment", "second_moment"):
            self.slots[name] = self._in_order([None] * len(kernels), self.slots[name])

    def _in_order(self, of_kernels: Sequence, of_others: Sequence) -> list:
        """Returns what belongs to kernels and what belongs to other variables in the order of all variables."""
        kernels, others = iter(of_kernels), iter(of_others)
        return [next(kernels) if n else next(others) for n in self.matrices]

    def _new_values(self, gradients: list[Tensor], variables: list[keras.Variable], rate: Tensor) -> list[Tensor]:
        pairs = list(zip(gradients, variables, strict=True))
        kernels = [pair for pair, n in zip(pairs, self.matrices, strict=True) if n]
        others = [pair for pair, n in zip(pairs, self.matrices, strict=True) if not n]
        new_others = super()._new_values(*map(list, zip(*others, strict=True)), rate)
        return self._in_order(self._new_kernels(kernels, rate), new_others)

    def _new_kernels(self, pairs: list[tuple[Tensor, keras.Variable]], rate: Tensor) -> list[Tensor]:
        """Returns kernels after the update, given the gradient and the variable of each."""
        parts = [self._orthogonalised_part(one, [pairs[place][0] for place in one.places]) for one in self._groups]
        directions = {}
        for group, stack in zip(self._groups, self._replicas.exchange(parts), strict=True):
            directions |= group.kernels(group.momentum.whole(stack))
        return [self._new_kernel(variable, directions[place], rate) for place, (_, variable) in enumerate(pairs)]

    def _orthogonalised_part(self, group: KernelGroup, gradients: list[Tensor]) -> Tensor:
        """Returns the steps of this replica's matrices of a group, and updates their momentum."""
        momentum = group.momentum
        ahead = self._ahead(momentum.part, momentum.own(group.stack(gradients)))
        return step_scale(momentum.shape) * orthogonalised(ahead)

    def _new_kernel(self, variable: keras.Variable, direction: Tensor, rate: Tensor) -> Tensor:
        new = self._moved(variable, variable.value, rate * direction, rate)
        if self.ema_decay:
            self._take_into_average(variable, self._slot(EMA_SLOT, variable).own(new))
        return new

    def copied_state(self, parameters: dict[str, keras.Variable]) -> dict[str, np.ndarray]:
        """Returns a copy of `named_state` on the host, for which the replicas exchange each group of kernels once."""
        names = [name for name, n in zip(parameters, self.matrices, strict=True) if n]
        copies = {}
        for group in self._groups:
            found = group.kernels(group.momentum.numpy())
            copies |= {f"momentum/{names[place]}": np.asarray(kernel) for place, kernel in found.items()}
        state = self.named_state(parameters)
        return {**host_copies({name: one for name, one in state.items() if name not in copies}), **copies}

    def _shared_out_variables(self) -> Iterator[SharedOutVariable]:
        yield from super()._shared_out_variables()
        yield from (group.momentum for group in self._groups)


def _groups(replicas: Replicas, kernels: Sequence[KernelLayout]) -> list[KernelGroup]:
    """Returns the kernels in groups of one shape of matrices."""
    by_shape: dict[tuple[int, int], dict[int, KernelLayout]] = {}
    for place, layout in enumerate(kernels):
        by_shape.setdefault(layout.matrix_shape, {})[place] = layout
    return [KernelGroup(replicas, layouts) for layouts in by_shape.values()]
