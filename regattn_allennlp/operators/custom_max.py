import importlib
import math
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from regattn_allennlp.operators.functions import (
    apply_to_all_rows,
    nestable,
    overridable,
    without_saved_tensors_hooks,
)
from regattn_allennlp.operators.regularized_max import RegularizedMax
from regattn_allennlp.operators.rows import (
    check_gamma,
    included_positions,
    require_dense,
    scaled,
    solve_rows,
    to_rows,
)

OmegaFunction = Callable[[Tensor], Tensor]

MAX_STEPS = 100
MAX_HALVINGS = 12
POLISHING_STEPS = 4
GAP = 2.0**-55  # of the objective: below the precision of float64 relative to weights


@overridable
def custom_max(
    scores: Tensor,
    omega_function: OmegaFunction,
    mask: Tensor | None = None,
    dim: int = -1,
    gamma: float | Tensor = 1.0,
) -> Tensor:
    """
    The weights for an Omega of your own: the solution of

        argmax_{p in simplex} <p, x> - gamma * Omega(p)

    by a primal-dual interior-point method (Boyd & Vandenberghe 2004, Convex Optimization, section 11.7), which decides
    what weights are exactly 0 and finishes with Newton's method on the others. Its derivatives are those of the
    optimality conditions (the implicit function theorem; Niculae & Blondel 2017, arXiv 1705.07704, section 3.1), also
    the second ones; no step of the solver is differentiated.

    # Parameters

    scores, mask, dim, gamma
        As in `RegularizedMax` and its `forward`. Masked positions are in Omega's vector, with weight 0.
    omega_function : Callable
        Omega, of one row: takes weights of shape (row_length,), in the dtype of the scores (float32 if that is half
        precision), and returns a tensor of shape (). It must be strictly convex, twice differentiable by PyTorch where
        weights are above 0, and work under `torch.vmap`: by PyTorch operations, without in-place changes and without
        decisions that depend on values. Its slope at weight 0 may be finite or infinite (`torch.special.xlogy`). If it
        is a `torch.nn.Module`, its parameters get gradients.

    # Returns

    The weights in the shape and dtype of `scores`. All optimality conditions hold to about the precision of the dtype,
    relative to the scores divided by gamma and to Omega's slopes. Weights below that precision may be given as 0. A
    row in which the method does not converge in 100 steps is NaN where it is not masked, and there is a
    RuntimeWarning: then Omega is most likely not convex, or not differentiable twice.

    It takes a (row_length x row_length) matrix for each row, and the time to solve that many equations, so it is for
    rows of up to some hundreds. It decides from values when it is done: torch.compile runs it as it is, outside of
    its graph (so not with fullgraph=True), and on a GPU it waits for results in every step.

    # Raises

    Those of `RegularizedMax.forward`, and a ValueError if `omega_function` does not return a tensor of shape ().
    """
    gamma = check_gamma(gamma)
    if not callable(omega_function):
        raise TypeError(
            f"omega_function must be callable, but is {omega_function!r} of type {type(omega_function).__name__}"
        )

    def solve(rows: Tensor, gamma: float | Tensor) -> Tensor:
        return _solve(scaled(rows, gamma), omega_function)

    return solve_rows(solve, scores, mask, dim, gamma=gamma)


# torch.compiler.disable, which would import the whole compiler here and now, for seconds; this does when it is called.
@torch._disable_dynamo
def _solve(values: Tensor, omega_function: OmegaFunction) -> Tensor:
    parameters = dict(omega_function.named_parameters()) if isinstance(omega_function, torch.nn.Module) else {}
    return _Solution.apply(_Omega(omega_function, tuple(parameters)), values, *parameters.values())


def _without_autocast(tensor: Tensor) -> AbstractContextManager:
    device_type = tensor.device.type
    if not torch.amp.is_autocast_available(device_type):  # the meta device has none
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


class _Omega:
    """Omega and its derivatives for matrices of rows, with its parameters, those of these names, as arguments."""

    def __init__(self, function: OmegaFunction, names: tuple[str, ...]) -> None:
        self.function = function
        self.names = names

    def of_row(self, weights: Tensor, *parameters: Tensor) -> Tensor:
        if parameters:
            assert isinstance(self.function, torch.nn.Module)
            named = dict(zip(self.names, parameters, strict=True))
            omega = torch.func.functional_call(self.function, named, (weights,))
        else:
            omega = self.function(weights)
        if not isinstance(omega, Tensor) or omega.shape != ():
            found = f"shape {tuple(omega.shape)}" if isinstance(omega, Tensor) else f"type {type(omega).__name__}"
            raise ValueError(
                f"omega_function must return a tensor of shape () for weights of shape {tuple(weights.shape)}, "
                f"but returned something of {found}"
            )
        return omega

    def slopes(self, weights: Tensor, *parameters: Tensor) -> Tensor:
        """Shape (num_rows, row_length)."""
        with _without_autocast(weights):
            return torch.vmap(torch.func.grad(lambda row: self.of_row(row, *parameters)))(weights)

    def curvatures(self, weights: Tensor, *parameters: Tensor) -> Tensor:
        """The Hessians: shape (num_rows, row_length, row_length)."""
        with _without_autocast(weights):
            # Reverse mode twice: forward mode may be in use outside, and it does not nest.
            gradient = torch.func.grad(lambda row: self.of_row(row, *parameters))
            return torch.vmap(torch.func.jacrev(gradient))(weights)


class _Solution(torch.autograd.Function):
    """
    The weights for gamma = 1, from `values` of shape (num_rows, row_length) as `scaled` gives them, and Omega's
    parameters. All derivatives are functions of the weights and the parameters, so they have derivatives too.
    """

    @staticmethod
    def forward(omega: _Omega, values: Tensor, *parameters: Tensor) -> Tensor:
        if values.numel() == 0 or values.is_meta:
            return torch.empty_like(values)
        with without_saved_tensors_hooks():
            return _weights(omega, values, parameters)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.omega, _, *parameters = inputs
        ctx.save_for_backward(output, *parameters)
        ctx.save_for_forward(output, *parameters)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple:  # type: ignore[override]
        weights, *parameters = ctx.saved_tensors
        with without_saved_tensors_hooks():
            gradient = _jacobian_product(ctx.omega, weights, parameters, upstream)
            if not any(ctx.needs_input_grad[2:]):
                return None, gradient, *(None for _ in parameters)
            # On the support the values less Omega's slopes are equal: a change of the slopes is one of -values.
            weights, support = _away_from_0(weights), weights != 0
            pull = torch.func.vjp(lambda *parameters: ctx.omega.slopes(weights, *parameters), *parameters)[1]
            return None, gradient, *pull(-gradient.where(support, 0))

    @nestable
    def jvp(ctx: Any, saved: list, _: None, values: Tensor | None, *changes: Tensor | None) -> Tensor:
        weights, *parameters = saved
        with without_saved_tensors_hooks():
            change = torch.zeros_like(weights) if values is None else values
            if any(parameter is not None for parameter in changes):
                away, support = _away_from_0(weights), weights != 0
                tangents = tuple(
                    torch.zeros_like(parameter) if tangent is None else tangent
                    for parameter, tangent in zip(parameters, changes, strict=True)
                )
                # Forward mode does not nest: the transpose of the transpose.
                pull = torch.func.vjp(lambda *parameters: ctx.omega.slopes(away, *parameters), *parameters)[1]
                push = torch.func.vjp(pull, torch.zeros_like(away))[1]
                change = change - push(tangents)[0].where(support, 0)
            return _jacobian_product(ctx.omega, weights, parameters, change)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, omega: _Omega, values: Tensor, *parameters: Tensor) -> tuple[Tensor, int]:
        if any(in_dim is not None for in_dim in in_dims[2:]):
            raise NotImplementedError("torch.vmap over the parameters of omega_function: only over scores")
        values = values.movedim(in_dims[1], 0)
        return _Solution.apply(omega, values.flatten(0, 1), *parameters).unflatten(0, values.shape[:2]), 0


def _jacobian_product(omega: _Omega, weights: Tensor, parameters: Any, vector: Tensor) -> Tensor:
    """K u - K 1 * (1^T K u) / (1^T K 1), where K is the inverse, on the support, of Omega's Hessian."""
    if weights.numel() == 0:
        return vector.clone()
    support = weights != 0
    hessians = omega.curvatures(_away_from_0(weights), *parameters)
    with _without_autocast(weights):
        return _project(hessians, support, vector.where(support, 0))


def _away_from_0(weights: Tensor) -> Tensor:
    """Zero weights are moved to where derivatives that are infinite at 0 do not overflow, nor change the others."""
    return weights + torch.finfo(weights.dtype).eps ** 2 * (weights == 0)


def _project(hessians: Tensor, support: Tensor, vector: Tensor) -> Tensor:
    """The p with sum(p) = 0, and 0 outside of the support, for which H p is the vector but for a constant."""
    matrices = _restricted(hessians, support)
    solved = _linear_solve(matrices, torch.stack([vector, support.to(vector.dtype)], dim=-1))
    of_vector, of_ones = solved.unbind(-1)
    total = of_ones.sum(-1, keepdim=True)
    return of_vector - of_ones * (of_vector.sum(-1, keepdim=True) / total.where(total != 0, 1))


def _restricted(hessians: Tensor, support: Tensor) -> Tensor:
    """The Hessians on the support, and the unit matrix elsewhere."""
    unit = torch.eye(hessians.size(-1), dtype=hessians.dtype, device=hessians.device)
    return hessians.where(support.unsqueeze(-1) & support.unsqueeze(-2), unit)


def _linear_solve(matrices: Tensor, right: Tensor) -> Tensor:
    """
    Symmetric equations, first scaled to a diagonal of 1: entropies have curvatures from 1 to more than 1e30. Where
    they have no solution the result is not finite.
    """
    scale = matrices.diagonal(dim1=-2, dim2=-1).abs().rsqrt().unsqueeze(-1)
    return scale * _SolutionOfEquations.apply(scale * matrices * scale.mT, scale * right)


class _SolutionOfEquations(torch.autograd.Function):
    """
    The X with A X = B, for a batch of symmetric A. (Forward derivatives of derivatives of PyTorch's own are wrong in
    older versions: pytorch issue 192540.)
    """

    @staticmethod
    def forward(matrices: Tensor, right: Tensor) -> Tensor:
        return torch.linalg.solve_ex(matrices, right).result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)
        ctx.save_for_forward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        matrices, solution = ctx.saved_tensors
        by_right = _SolutionOfEquations.apply(matrices, upstream)
        return -by_right @ solution.mT, by_right

    @nestable
    def jvp(ctx: Any, saved: list, matrices: Tensor | None, right: Tensor | None) -> Tensor:
        unchanged, solution = saved
        change = torch.zeros_like(solution) if right is None else right
        return _SolutionOfEquations.apply(unchanged, change if matrices is None else change - matrices @ solution)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *arguments: Any) -> tuple:
        def solve(matrices: Tensor, right: Tensor, _: None) -> Tensor:
            return _SolutionOfEquations.apply(matrices, right)

        return apply_to_all_rows(solve, info, (*in_dims, None), (*arguments, None))


def _weights(omega: _Omega, values: Tensor, parameters: tuple[Tensor, ...]) -> Tensor:
    """
    Only Omega is computed in the dtype of the values. All else is in float64, for the slacks z of the conditions

        slope_i - v_i + t - z_i = 0,    p_i * z_i = mu,    sum p = 1,    p >= 0,    z >= 0

    have to come much nearer to 0 than that. Each step is one of Newton's method for these equations, with mu a tenth
    of what it is at present; the last ones are without z, for the weights that are not 0.
    """
    dtype = values.dtype
    precision = torch.finfo(dtype).eps
    parameters = tuple(parameter.detach() for parameter in parameters)
    included = values != -math.inf
    solvable = (included & values.isfinite()).any(-1) & values.isfinite().logical_or(~included).all(-1)

    # The largest is 0. Lower ones than this have no weight either, but squares that overflow.
    v = values.double().where(included & solvable.unsqueeze(-1), 0).clamp(min=-1e20)
    count = included.sum(-1, keepdim=True).clamp(min=1)

    def slopes(p: Tensor) -> Tensor:
        return omega.slopes(_away_from_0(p.to(dtype)), *parameters).double().where(included, 0)

    def curvatures(p: Tensor) -> Tensor:
        return omega.curvatures(_away_from_0(p.to(dtype)), *parameters).double()

    # A start with z = 1 - v but for the slopes, and all p_i * z_i about equal, however far apart the scores are.
    p = (1 / (1 - v)).where(included, 0)
    p = p / p.sum(-1, keepdim=True).where(included.any(-1, keepdim=True), 1)
    slope = slopes(p)
    t = 1 + (v - slope).where(included, -1e30).amax(-1, keepdim=True)
    z = (slope - v + t).where(included, 0)

    def largest_fraction(position: Tensor, step: Tensor) -> Tensor:
        """Of a step, at most 1, that keeps the position above 0."""
        limits = (-position / step).where(included & (step < 0), math.inf)
        return (0.995 * limits.amin(-1, keepdim=True)).clamp(max=1.0)

    def residuals(z: Tensor, t: Tensor, slope: Tensor) -> Tensor:
        """Of the first condition; 0 where it is met to the precision of what is in it."""
        residual = (slope - v + t - z).where(included, 0)
        return residual.where(residual.abs() > 8 * precision * (slope.abs() + v.abs() + t.abs() + 1), 0)

    converged = ~solvable.unsqueeze(-1)
    for _ in range(MAX_STEPS):
        residual = residuals(z, t, slope)
        gap = (p * z).sum(-1, keepdim=True)
        # The conditions with mu = 0, which z approximates: slack >= 0 and p_i * slack_i = 0.
        slack = ((slope - v + t) / (slope.abs() + v.abs() + t.abs() + 1)).where(included, 0)
        error = torch.maximum(-slack, p * slack).amax(-1, keepdim=True)
        converged = converged | ((error < 100 * precision) & (gap < GAP))
        if converged.all():
            break
        mu = gap / count / 10
        p_safe = p.where(included, 1)
        barrier = (z / p_safe).where(included, 0)
        matrices = _restricted(curvatures(p) + torch.diag_embed(barrier), included)
        right = (mu / p_safe - z - residual).where(included, 0)
        solved = _linear_solve(matrices, torch.stack([right, included.double()], dim=-1))
        of_right, of_ones = solved.unbind(-1)
        # sum(p + step) = 1
        missing = 1 - p.sum(-1, keepdim=True)
        t_step = (of_right.sum(-1, keepdim=True) - missing) / of_ones.sum(-1, keepdim=True)
        p_step = of_right - of_ones * t_step
        z_step = (mu / p_safe - z - barrier * p_step).where(included, 0)

        fraction = torch.minimum(largest_fraction(p, p_step), largest_fraction(z, z_step))
        # Residuals count by the weight they are of. Those of small weights may grow where slopes are infinite at 0:
        # the next step corrects them.
        size = _size(p_safe * residual, p * z - mu, included)
        good = converged
        for _ in range(MAX_HALVINGS):
            new_p, new_z, new_t = p + fraction * p_step, z + fraction * z_step, t + fraction * t_step
            new_slope = slopes(new_p)
            new_residual = p_safe * residuals(new_z, new_t, new_slope)
            new_size = _size(new_residual, new_p * new_z - mu, included)
            good = good | (new_size <= (1 - 0.01 * fraction) * size)
            if good.all():
                break
            fraction = fraction.where(good, fraction / 2)
        p, z, t = new_p.where(~converged, p), new_z.where(~converged, z), new_t.where(~converged, t)
        slope = new_slope.where(~converged, slope)

    # What curves more, Omega or the barrier, tells which weights the barrier alone keeps from 0.
    curvature = curvatures(p).diagonal(dim1=-2, dim2=-1)
    support = included & (curvature * p > z)
    p = p.where(support, 0)
    p = p / p.sum(-1, keepdim=True)
    polished = p
    for _ in range(POLISHING_STEPS):
        right = v - slopes(polished)
        right = (right - (right * polished).sum(-1, keepdim=True)).where(support, 0)
        polished = polished + _project(curvatures(polished), support, right)
        # A weight on the very boundary of the support may come out below 0 by a rounding error.
        polished = (polished / polished.sum(-1, keepdim=True)).clamp(min=0)
    near = (polished - p).abs().amax(-1, keepdim=True) < precision**0.25
    weights = polished.where(near, p).where(support, 0)

    failed = solvable & ~converged.squeeze(-1)
    if failed.any():
        warnings.warn(
            f"{int(failed.sum())} of {failed.numel()} rows did not converge and are NaN: is the omega_function "
            "strictly convex and twice differentiable?",
            RuntimeWarning,
            stacklevel=2,
        )
    unsolvable = (~solvable | failed).unsqueeze(-1)
    return weights.masked_fill(unsolvable, math.nan).masked_fill(~included, 0).to(dtype)


def _size(residual: Tensor, complementarity: Tensor, included: Tensor) -> Tensor:
    both = torch.stack([residual, complementarity.where(included, 0)], dim=-1)
    return torch.linalg.vector_norm(both, dim=(-2, -1)).unsqueeze(-1)


@RegularizedMax.register("custom")
class CustomMax(RegularizedMax):
    """
    `custom_max` as a module: Omega is `omega_function`.

        CustomMax(lambda weights: weights.square().sum() / 2)                  # sparsemax, the slow way
        CustomMax("my_package.my_module.my_omega")
        RegularizedMax.from_params({"type": "custom", "omega_function": "my_package.my_module.my_omega"})

    # Parameters

    omega_function : Callable or str
        See `custom_max`. A string is the dotted path of a function, or of a class, of which an instance is made
        without arguments: a `torch.nn.Module` with parameters to learn, for example. A module becomes a submodule.
    gamma, dim, learn_gamma
        See `RegularizedMax`.
    """

    def __init__(
        self,
        omega_function: OmegaFunction | str,
        gamma: float | Tensor = 1.0,
        dim: int = -1,
        learn_gamma: bool = False,
    ) -> None:
        super().__init__(gamma, dim, learn_gamma)
        if isinstance(omega_function, str):
            omega_function = import_function(omega_function)
        if not callable(omega_function):
            raise TypeError(
                "omega_function must be callable, or the dotted path of what is, but is "
                f"{omega_function!r} of type {type(omega_function).__name__}"
            )
        self.omega_function = omega_function

    def extra_repr(self) -> str:
        if isinstance(self.omega_function, torch.nn.Module):  # shown as a submodule
            return super().extra_repr()
        name = getattr(self.omega_function, "__qualname__", repr(self.omega_function))
        return f"omega_function={name}, {super().extra_repr()}"

    def forward(self, scores: Tensor, mask: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        require_dense("custom_max", offsets)
        return custom_max(scores, self.omega_function, mask, self.dim, self.gamma)

    def omega(self, weights: Tensor, mask: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        require_dense("custom_max", offsets)
        if weights.numel() == 0:
            return weights.sum(self.dim)
        with _without_autocast(weights):
            rows = torch.vmap(_Omega(self.omega_function, ()).of_row)(_away_from_0(to_rows(weights, self.dim)))
        shape = list(weights.shape)
        shape.pop(self.dim)
        # Rows with nothing in the problem have no Omega, whatever it is at 0.
        return rows.view(shape).where(included_positions(weights, mask).any(self.dim), 0)

    @overridable
    def value(self, scores: Tensor, mask: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        require_dense("custom_max", offsets)
        if not any(parameter.requires_grad for parameter in self._omega_parameters()):
            return super().value(scores, mask)
        # By its definition, through which gradients reach Omega's parameters too. What comes by way of the weights
        # cancels.
        included = included_positions(scores, mask)
        computed_scores = scores.to(self.compute_dtype(scores))
        weights = self(computed_scores, mask)
        linear = (weights * computed_scores.masked_fill(~included, 0.0)).sum(self.dim)
        gamma: Any = self.by_row(self.gamma, scores)
        return (linear - gamma * self.omega(weights, included)).to(scores.dtype)

    def _omega_parameters(self) -> list[torch.nn.Parameter]:
        return list(self.omega_function.parameters()) if isinstance(self.omega_function, torch.nn.Module) else []


def import_function(path: str) -> OmegaFunction:
    """What the dotted path names; of a class, an instance made without arguments."""
    module_name, _, name = path.rpartition(".")
    if not module_name:
        raise ValueError(
            f"omega_function must be the dotted path of a function, such as my_package.my_module.my_omega, "
            f"but is {path!r}"
        )
    try:
        found = getattr(importlib.import_module(module_name), name)
    except ImportError as error:
        raise ValueError(f"omega_function {path!r}: module {module_name!r} cannot be imported ({error})") from error
    except AttributeError:
        raise ValueError(f"omega_function {path!r}: module {module_name!r} has no {name!r}") from None
    return found() if isinstance(found, type) else found
