"""The base class of the operators as modules."""

import copy
import functools
import math
import types
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor

from regattn_allennlp.operators.functions import (
    batch_first,
    is_compiling_a_transform,
    nestable,
    overridable,
)
from regattn_allennlp.operators.nested import Jagged
from regattn_allennlp.operators.rows import (
    COMPUTE_DTYPES,
    check_dim,
    check_gamma,
    check_offsets,
    expand_parameter,
    included_positions,
    spread_to_entries,
    sum_of_rows,
)

Instance = TypeVar("Instance", bound="RegularizedMax")
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

    gamma : float or Tensor, optional (default = 1.0)
        How strongly Omega regularizes, above 0. Near 0 the weights go to the largest score alone. A tensor must
        broadcast to the scores with size 1 at `dim`: one gamma for each row, or head; it may require a gradient.
        Where it is not a finite number above 0, the row's weights are NaN.
    dim : int, optional (default = -1)
        The dimension of the scores along which the weights sum to 1.
    learn_gamma : bool, optional (default = False)
        Make gamma a parameter of the module, kept above 0; `gamma` is where it starts.
    """

    _registry: ClassVar[dict[str, "type[RegularizedMax]"]] = {}

    # Omega where one position has all the weight, if a subclass knows that it is the same for all.
    vertex_omega: ClassVar[float | None] = None

    # The name of the one parameter of Omega that a subclass may have beside gamma: "lam", "alpha".
    shape_parameter: ClassVar[str | None] = None

    # What the parameters must be above, and below, to be learned. (The others have no upper bound.)
    lower_bounds: ClassVar[dict[str, float]] = {"gamma": 0.0, "lam": 0.0, "alpha": 1.0}
    upper_bounds: Mapping[str, float] = {}

    def __init__(self, gamma: float | Tensor = 1.0, dim: int = -1, learn_gamma: bool = False) -> None:
        super().__init__()
        self._learned_for_all_rows: set[str] = set()
        self.set_regularization("gamma", check_gamma(gamma), learn_gamma)
        self.dim = check_dim(dim)

    def __init_subclass__(cls, **arguments: Any) -> None:
        """
        A constructor that is inherited gets the subclass's name, which its errors tell. And what is known of an
        operator is not known of a subclass with another Omega.
        """
        super().__init_subclass__(**arguments)
        of_omega = {"omega"}
        known = {"vertex_omega": of_omega, "omega_at": of_omega, "entmax_alpha": {"omega", "forward"}}
        for name, causes in known.items():
            if causes & vars(cls).keys() and name not in vars(cls):
                setattr(cls, name, vars(RegularizedMax)[name])
        if "__init__" not in vars(cls):
            inherited: Any = cls.__init__
            own = types.FunctionType(
                inherited.__code__, inherited.__globals__, "__init__", inherited.__defaults__, inherited.__closure__
            )
            functools.update_wrapper(own, inherited)
            own.__qualname__ = f"{cls.__qualname__}.__init__"
            cls.__init__ = own  # type: ignore[method-assign]

    @property
    def gamma(self) -> float | Tensor:
        return self.get_regularization("gamma")

    @gamma.setter
    def gamma(self, gamma: float | Tensor) -> None:
        self.replace_regularization("gamma", check_gamma(gamma))

    def set_regularization(self, name: str, value: float | Tensor, learn: bool) -> None:
        """
        Keep the regularization `name` ("gamma", "lam", ...), for `get_regularization`. A learned one is kept as a
        parameter that may be any number, of shape (1,) if it is for all rows (FSDP wants a dimension to shard): as
        the logarithm of its distance from its lower bound; or, if it has an upper one, as the logit of where it is
        between them. So it stays within its bounds whatever the optimizer does.
        """
        if learn:
            lower, upper = self.lower_bounds[name], self.upper_bounds.get(name, math.inf)
            if isinstance(value, Tensor):
                # (On the meta device there are no numbers to look at.)
                is_within = value.is_meta or bool(((value > lower) & (value < upper)).all())
                start = value.detach()
            else:
                is_within = lower < value < upper
                start = torch.tensor(value, dtype=torch.get_default_dtype())
            if not is_within:
                below = "" if upper == math.inf else f" and below max_{name} = {upper}"
                raise ValueError(f"{name} must be above {lower}{below} to be learned, but is {value}")
            if start.dim() == 0:
                self._learned_for_all_rows.add(name)
            distance = (start - lower).reshape(start.shape or (1,))
            kept = distance.log() if upper == math.inf else torch.logit(distance / (upper - lower))
            self.register_parameter(self._learned_name(name), torch.nn.Parameter(kept))
        elif isinstance(value, Tensor) and not isinstance(value, torch.nn.Parameter):
            self.register_buffer(f"_{name}", value)
        else:
            setattr(self, f"_{name}", value)

    def _learned_name(self, name: str) -> str:
        """What the parameter is called that keeps `name` where it is learned."""
        return f"logit_{name}" if name in self.upper_bounds else f"log_{name}"

    def learns(self, name: str) -> bool:
        """Whether "gamma" or the `shape_parameter` is a parameter of the module."""
        return hasattr(self, self._learned_name(name))

    def replace_regularization(self, name: str, value: float | Tensor) -> None:
        if self.learns(name):
            raise AttributeError(f"{name} is learned: what can be changed is the parameter {self._learned_name(name)}")
        delattr(self, f"_{name}")
        self.set_regularization(name, value, learn=False)

    def get_regularization(self, name: str) -> float | Tensor:
        if not self.learns(name):
            return getattr(self, f"_{name}")
        kept = getattr(self, self._learned_name(name))
        if isinstance(kept, Tensor) and hasattr(kept, "full_tensor"):
            raise RuntimeError(
                f"{name} is sharded over processes, but for the time of forward: have all of them call "
                f"{self._learned_name(name)}.full_tensor()"
            )
        kept = kept.squeeze(0) if name in self._learned_for_all_rows else kept
        lower, upper = self.lower_bounds[name], self.upper_bounds.get(name, math.inf)
        return lower + (kept.exp() if upper == math.inf else (upper - lower) * kept.sigmoid())

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *arguments: Any) -> None:
        """Earlier versions kept one learned number without a dimension, and alpha without an upper bound."""
        for name in self.regularization_names():
            if not self.learns(name):
                continue
            key, earlier_key = f"{prefix}{self._learned_name(name)}", f"{prefix}log_{name}"
            if key != earlier_key and earlier_key in state_dict:
                lower, upper = self.lower_bounds[name], self.upper_bounds[name]
                share = state_dict.pop(earlier_key).exp() / (upper - lower)
                if (share >= 1).any():
                    value = lower + share.max().item() * (upper - lower)
                    raise ValueError(
                        f"{earlier_key} keeps {name} = {value:.4g}, learned without an upper bound, but here "
                        f"max_{name} is {upper}: it must be larger"
                    )
                state_dict[key] = torch.logit(share)
            if key in state_dict and state_dict[key].shape == ():
                state_dict[key] = state_dict[key].reshape(1)
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def with_regularization(self: Instance, **values: float) -> Instance:
        """
        A copy with other values of gamma and the `shape_parameter`, fixed also where this one learns them.

            Fusedmax(gamma=1.0, lam=0.1, learn_lam=True).with_regularization(lam=0.5)
        """
        for name in values:
            if name not in self.regularization_names():
                raise ValueError(f"{type(self).__name__} has no {name!r}; it has {self.regularization_names()}")
        other = copy.deepcopy(self)
        for name, value in values.items():
            if other.learns(name):
                delattr(other, other._learned_name(name))
                other.set_regularization(name, value, learn=False)
            setattr(other, name, value)
        return other

    def learned_regularization(self) -> dict[str, Tensor]:
        """The present values of what is learned of "gamma" and the `shape_parameter`, by name, without gradients."""
        return {
            name: torch.as_tensor(self.get_regularization(name)).detach()
            for name in self.regularization_names()
            if self.learns(name)
        }

    def extra_repr(self) -> str:
        values = [f"{name}={self._describe(name)}" for name in self.regularization_names()]
        return ", ".join([*values, f"dim={self.dim}"])

    def _describe(self, name: str) -> str:
        if self.learns(name):
            kept = getattr(self, self._learned_name(name))
            if kept.is_meta or type(kept) not in (Tensor, torch.nn.Parameter):
                return "learned"  # without a number that could be had here
        value = self.get_regularization(name)
        if not isinstance(value, Tensor):
            return f"{value}"
        return f"tensor of shape {tuple(value.shape)}" if value.dim() or value.is_meta else f"{value.item():.4g}"

    def regularization_names(self) -> list[str]:
        """ "gamma", and the `shape_parameter` if there is one."""
        return ["gamma"] if self.shape_parameter is None else ["gamma", self.shape_parameter]

    def forward(self, scores: Tensor, mask: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        """
        The weights Pi_Omega(scores), in the shape and dtype of `scores`.

        # Parameters

        scores : Tensor
            Any number of dimensions; float16, bfloat16 (both computed in float32), float32 or float64.
        mask : Tensor, optional
            dtype bool, broadcastable to `scores`; false takes a position out of the problem: its weight and its
            gradient are exactly 0. A score of -inf does the same. A row with nothing left gets all zeros; NaN or +inf
            in a row makes that row's weights NaN, and no other row's.
        offsets : Tensor, optional
            Shape (num_rows + 1,), int64: there are rows of any lengths, one after another, along `dim` of the scores;
            row r is from offsets[r] to offsets[r + 1], and each sums to 1. The first is 0, the last the number of
            entries, and no row is shorter than 0. (CSR calls them row pointers; they are those of PyTorch's jagged
            nested tensors, too, and a jagged `scores` needs none.) gamma and the like, as tensors, have one number for
            each row at `dim`; so has the `value`.

        # Raises

        TypeError for scores that are not floating point, a mask that is not bool and offsets that are not integers;
        ValueError for a mask that does not broadcast and for other offsets (on a GPU their numbers are not looked at).
        """
        raise NotImplementedError

    def omega(self, weights: Tensor, mask: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        """
        The regularizer Omega of points of the simplex, along `dim`, which the result does not have; of packed rows it
        has their number there. `mask` and `offsets` are as in `forward`; `weights` are 0 where the mask is false.
        """
        raise NotImplementedError

    def omega_slope(self, weights: Tensor, mask: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        """The derivative of `omega` by the `shape_parameter`, at fixed weights. Only for operators that have one."""
        raise NotImplementedError

    def omega_at(
        self, positions: Tensor, included: Tensor, dtype: torch.dtype, offsets: Tensor | None = None
    ) -> float | Tensor:
        """
        Omega where one position has all the weight: a number if that is the same for all, else of `dtype` and in the
        shape of `positions`, int64, which has any size at `dim`; for packed rows, one for each row, or for each entry.
        A subclass that knows it, here or by its `vertex_omega`, need not go through `omega` once for each position.
        `included` is where the problem has a variable; of other positions the result is any finite number.
        """
        if self.vertex_omega is not None:
            return self.vertex_omega
        none = included.new_zeros(included.shape, dtype=dtype)
        if offsets is not None:
            vertices = none.scatter(self.dim, positions, 1.0).masked_fill(~included, 0.0)
            return self.omega(vertices, included, offsets)  # type: ignore[call-arg]
        omegas = [
            self.omega(none.scatter(self.dim, position, 1.0).masked_fill(~included, 0.0), included)
            for position in positions.split(1, self.dim)
        ]
        return torch.stack(omegas, self.dim)

    def entmax_alpha(self) -> float | None:
        """The alpha for which `entmax` is this operator, if there is one and it is a number."""
        return None

    @overridable
    def value(self, scores: Tensor, mask: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        """
        max_Omega(scores), along `dim`, which the result does not have; of packed rows it has their number there. Its
        gradient is `forward(scores, mask, offsets)`. A row with nothing in the problem has value 0, so that it adds
        nothing to a sum.
        """
        if isinstance(scores, Tensor) and scores.is_nested:
            jagged = Jagged(scores)
            dim, is_along = jagged.dim(self.dim)
            packed_mask = jagged.pack("mask", mask)
            return self.along(dim).value(scores.values(), packed_mask, jagged.offsets if is_along else None)
        offsets = check_offsets(offsets, scores, self.dim)
        packed = () if offsets is None else (offsets,)  # operators of one's own need not know of packed rows
        included = included_positions(scores, mask)
        computed_scores = scores.to(self.compute_dtype(scores))
        weights = self(computed_scores, mask, *packed)
        omega = self.omega(weights, included, *packed)
        present_scores = computed_scores.where(included, 0.0)
        if is_compiling_a_transform():
            linear = sum_of_rows(weights * present_scores, self.dim, offsets)
            value = linear - self.by_row(self.gamma, scores, offsets) * omega
            return value.to(scores.dtype)
        # Each parameter and the derivative of the value by it, per row (the envelope theorem): -omega by gamma.
        gamma, gamma_slope = self.by_row(self.gamma, scores, offsets), -omega
        shape, shape_slope = None, None
        if self.shape_parameter is not None and isinstance(self.get_regularization(self.shape_parameter), Tensor):
            shape = self.by_row(self.get_regularization(self.shape_parameter), scores, offsets)
            shape_slope = -(gamma * self.omega_slope(weights, included, *packed))
        function = _Value if torch.compiler.is_compiling() else _ValueInForwardMode
        dim = self.dim if self.dim < 0 else self.dim - scores.dim()
        arguments = present_scores, gamma, shape, weights, gamma_slope, shape_slope, dim, offsets
        return function.apply(*arguments).to(scores.dtype)

    def total(self, scores: Tensor, mask: Tensor | None = None) -> float | Tensor:
        """What the weights of `scores` sum to, along `dim`: 1, if a subclass says nothing else."""
        return 1.0

    def reaches_vertices(self) -> bool:
        """Whether any position may have all the weight, and that is 1: if a subclass says nothing else, it may."""
        return True

    def attains(self, weights: Tensor, mask: Tensor | None, tolerance: float) -> Tensor | None:
        """
        For a loss: where `weights` are some that the operator can give, but for a relative `tolerance`, along `dim`,
        which the result does not have. None is everywhere.
        """
        return None

    def along(self: Instance, dim: int) -> Instance:
        """The same operator, with the same parameters, along another dimension."""
        other = copy.copy(self)
        other.dim = dim
        return other

    def compute_dtype(self, tensor: Tensor) -> torch.dtype:
        """What values are computed in: like the weights, but in what is wide enough for the regularization, too."""
        dtype = COMPUTE_DTYPES[tensor.dtype]
        numbers = [self.get_regularization(name) for name in self.regularization_names()]
        is_wide = any(not isinstance(number, Tensor) and number > torch.finfo(dtype).max for number in numbers)
        return torch.float64 if is_wide else dtype

    def by_row(self, parameter: float | Tensor, scores: Tensor, offsets: Tensor | None = None) -> float | Tensor:
        """A parameter, a tensor in the shape of a value of `scores`."""
        expanded = expand_parameter("parameter", parameter, scores, self.dim, offsets)
        return expanded.squeeze(self.dim) if isinstance(expanded, Tensor) and offsets is None else expanded

    def by_entry(self, parameter: float | Tensor, scores: Tensor, offsets: Tensor | None = None) -> float | Tensor:
        """A parameter, a tensor in a shape that broadcasts to `scores`."""
        of_rows = self.by_row(parameter, scores, offsets)
        if not isinstance(of_rows, Tensor):
            return of_rows
        return spread_to_entries(of_rows, self.dim, scores.size(self.dim), offsets)

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


class _Value(torch.autograd.Function):
    """
    Returns <weights, scores> + gamma * gamma_slope, the value, and gives it the gradients `weights`, `gamma_slope`
    and `shape_slope`, which may be differentiated further. `dim` is below 0; `gamma` and `shape` are numbers, or in
    the shape of the value.
    """

    @staticmethod
    def forward(
        scores: Tensor,
        gamma: float | Tensor,
        shape: float | Tensor | None,
        weights: Tensor,
        gamma_slope: Tensor,
        shape_slope: Tensor | None,
        dim: int,
        offsets: Tensor | None,
    ) -> Tensor:
        return sum_of_rows(weights * scores, dim, offsets) + gamma * gamma_slope

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        *_, weights, gamma_slope, shape_slope, ctx.dim, offsets = inputs
        ctx.save_for_backward(weights, gamma_slope, shape_slope, offsets)
        ctx.save_for_forward(weights, gamma_slope, shape_slope, offsets)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple:  # type: ignore[override]
        weights, gamma_slope, shape_slope, offsets = ctx.saved_tensors
        return (
            spread_to_entries(upstream, ctx.dim, weights.size(ctx.dim), offsets) * weights,
            upstream * gamma_slope if ctx.needs_input_grad[1] else None,
            upstream * shape_slope if ctx.needs_input_grad[2] else None,
            *[None] * 5,
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *arguments: Any) -> tuple[Tensor, int]:
        return _ValueInForwardMode.apply(*batch_first(info, in_dims, arguments)), 0


class _ValueInForwardMode(_Value):
    """`_Value` with forward-mode differentiation, whose presence keeps torch.compile from tracing a Function."""

    @nestable
    def jvp(ctx: Any, saved: list, scores: Any, gamma: Any, shape: Any, *_: Any) -> Tensor:
        weights, gamma_slope, shape_slope, offsets = saved
        change = sum_of_rows(weights * scores, ctx.dim, offsets)
        if gamma is not None:
            change = change + gamma * gamma_slope
        if shape is not None:
            change = change + shape * shape_slope
        return change
