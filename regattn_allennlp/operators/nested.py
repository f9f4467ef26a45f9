"""PyTorch's jagged nested tensors, as the packed rows that they are."""

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from regattn_allennlp.operators.rows import check_dim

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Tensor])

# The arguments that belong to each entry, and those that belong to each row.
ENTRIES, PARAMETERS = ("mask",), ("gamma", "lam", "alpha")


def takes_jagged(function: AnyFunction) -> AnyFunction:
    """
    Lets an operator, which takes `scores`, `mask`, `dim`, parameters and `offsets`, take jagged nested tensors too.

        scores = torch.nested.nested_tensor([torch.randn(3), torch.randn(5)], layout=torch.jagged)
        weights = sparsemax(scores)  # jagged too: each sums to 1

    Along any other dimension than the jagged one the rows are dense.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(scores: Tensor, *arguments: Any, **named: Any) -> Tensor:
        if not (isinstance(scores, Tensor) and scores.is_nested):
            return function(scores, *arguments, **named)
        bound = signature.bind(scores, *arguments, **named)
        bound.apply_defaults()
        packed = Jagged(scores)
        values = {name: packed.pack(name, value) for name, value in bound.arguments.items() if name != "dim"}
        values["dim"], is_along = packed.dim(bound.arguments["dim"])
        values["offsets"] = packed.offsets if is_along else None
        return packed.unpack(function(**values))

    return call  # type: ignore[return-value]


class Jagged:
    """How the entries of a jagged nested tensor lie."""

    def __init__(self, scores: Tensor) -> None:
        if scores.layout != torch.jagged:
            raise TypeError(f"nested scores must have the layout torch.jagged, but have {scores.layout}")
        jagged: Any = scores
        self._scores = jagged if jagged.lengths() is None else jagged.contiguous()  # without holes
        self.offsets: Tensor = self._scores.offsets()
        self._jagged_dim: int = self._scores._ragged_idx  # of the values, that is one earlier: they have no batch

    def dim(self, dim: int) -> tuple[int, bool]:
        """The dimension among those of the values, and whether it is the jagged one."""
        number = check_dim(dim)
        number = number + self._scores.dim() if number < 0 else number
        if not 0 < number < self._scores.dim():
            raise ValueError(f"dim must be one of the {self._scores.dim() - 1} after the batch, but is {dim}")
        return number - 1, number == self._jagged_dim

    def pack(self, name: str, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if value.is_nested:
            return value.values()
        if name in PARAMETERS and value.dim() > 0:
            if value.dim() != self._scores.dim() or value.size(self._jagged_dim) != 1:
                raise ValueError(
                    f"{name} must have {self._scores.dim()} dimensions, with size 1 at the jagged one, dimension "
                    f"{self._jagged_dim}, but has shape {tuple(value.shape)}"
                )
            return value.squeeze(self._jagged_dim).movedim(0, self._jagged_dim - 1)
        if name in ENTRIES:
            raise ValueError("the mask of nested scores must be nested too, with the same offsets")
        return value

    def unpack(self, values: Tensor) -> Tensor:
        return torch.nested.nested_tensor_from_jagged(values, self.offsets, jagged_dim=self._jagged_dim)
