"""The base class of the operators as modules."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from regattn_allennlp.operators.rows import COMPUTE_DTYPES, check_gamma, included_positions

Subclass = TypeVar("Subclass", bound="type[RegularizedMax]")


class RegularizedMax(torch.nn.Module):
    """
    A regularized max operator (Niculae & Blondel 2017, arXiv 1705.07704, section 2). For scores x in R^n, a strongly
    convex Omega and gamma > 0, over the probability simplex D,

        max_Omega(x) = max_{p in D} <p, x> - gamma * Omega(p)     a scalar, the smoothed maximum: `value`
        Pi_Omega(x)  = the p that attains it = grad max_Omega(x)  the attention weights: `forward`

    Subclasses define `forward` and `omega`, and are registered under a name:

        @RegularizedMax.register("fusedmax")
        class Fusedmax(RegularizedMax): ...

        RegularizedMax.by_name("fusedmax")(lam=0.2)
        RegularizedMax.from_params({"type": "fusedmax", "lam": 0.2})

    These methods are those of AllenNLP's `Registrable`, so AllenNLP builds a constructor argument annotated with
    `RegularizedMax` from a config; but the operators do not need AllenNLP.

    # Parameters

    gamma : float, optional (default = 1.0)
        How strongly Omega regularizes, above 0. Near 0 the weights go to the largest score alone.
    dim : int, optional (default = -1)
        The dimension of the scores along which the weights sum to 1.
    """

    _registry: ClassVar[dict[str, "type[RegularizedMax]"]] = {}

    def __init__(self, gamma: float = 1.0, dim: int = -1) -> None:
        super().__init__()
        check_gamma(gamma)
        self.gamma = gamma
        self.dim = dim

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """
        The weights Pi_Omega(scores), in the shape and dtype of `scores`.

        # Parameters

        scores : Tensor
            Any number of dimensions; float16, bfloat16 (both computed in float32), float32 or float64.
        mask : Tensor, optional
            dtype bool, broadcastable to `scores`; false takes a position out of the problem: its weight and its
            gradient are exactly 0. A score of -inf does the same. A row with nothing left gets all zeros; NaN or +inf
            in a row makes that row's weights NaN, and no other row's.

        # Raises

        TypeError for scores that are not floating point and for a mask that is not bool; ValueError for a mask that
        does not broadcast.
        """
        raise NotImplementedError

    def omega(self, weights: Tensor, mask: Tensor | None = None) -> Tensor:
        """
        The regularizer Omega of points of the simplex, along `dim`, which the result does not have. `mask` is as in
        `forward`; `weights` are 0 where it is false.
        """
        raise NotImplementedError

    def value(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """
        max_Omega(scores), along `dim`, which the result does not have. Its gradient is `forward(scores, mask)`.
        A row with nothing in the problem has value 0, so that it adds nothing to a sum.
        """
        included = included_positions(scores, mask)
        scores_to_compute = scores.to(COMPUTE_DTYPES[scores.dtype])
        weights = self(scores_to_compute, mask)
        with torch.no_grad():
            expectation = (weights * scores_to_compute.masked_fill(~included, 0.0)).sum(self.dim)
            value = expectation - self.gamma * self.omega(weights, included)
        return _ValueWithGradient.apply(scores_to_compute, weights, value, self.dim).to(scores.dtype)

    def extra_repr(self) -> str:
        return f"gamma={self.gamma}, dim={self.dim}"

    @classmethod
    def register(cls, name: str) -> Callable[[Subclass], Subclass]:
        """A class decorator that makes a subclass known under `name`."""

        def add(subclass: Subclass) -> Subclass:
            if name in RegularizedMax._registry:
                raise ValueError(f"{name!r} is registered already, for {RegularizedMax._registry[name].__name__}")
            RegularizedMax._registry[name] = subclass
            return subclass

        return add

    @classmethod
    def by_name(cls, name: str) -> "type[RegularizedMax]":
        if name not in RegularizedMax._registry:
            raise ValueError(f"{name!r} is not a registered RegularizedMax; there are {cls.list_available()}")
        return RegularizedMax._registry[name]

    @classmethod
    def list_available(cls) -> list[str]:
        return sorted(RegularizedMax._registry)

    @classmethod
    def from_params(cls, params: Mapping[str, Any], **extras: Any) -> "RegularizedMax":
        """
        Build an operator from a dictionary (or AllenNLP's `Params`): "type" is the registered name, all else are
        arguments of the constructor.
        """
        arguments = dict(params)
        if "type" not in arguments:
            raise ValueError(f'{arguments} needs a "type", one of {cls.list_available()}')
        operator = cls.by_name(arguments.pop("type"))
        return operator(**arguments)


class _ValueWithGradient(torch.autograd.Function):
    """Returns `value`, and gives it the gradient `weights`, which may be differentiated further."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, weights: Tensor, value: Tensor, dim: int) -> Tensor:
        ctx.save_for_backward(weights)
        ctx.dim = dim
        return value.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        (weights,) = ctx.saved_tensors
        return upstream.unsqueeze(ctx.dim) * weights, None, None, None
