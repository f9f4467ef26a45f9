"""
What sparsemax, fusedmax and oscarmax share: all three are P_simplex(prox(x / gamma)), and have one derivative. So has
constrained_sparsemax with numbers as bound and budget, S being where the weights are between their bounds.

The proximal operator's solution is constant on blocks (single entries, segments, groups), and near x neither the
blocks nor the support S of the weights change. There the Jacobian is

    dp / dx = (1 / gamma) * (averaging within each block of S  -  averaging over all of S),

symmetric, and itself locally constant (Niculae & Blondel 2017, sections 3.2 and 3.3, and the appendix on Jacobians).
With R the penalty that lam weighs, dp / dlam = -gamma * (dp / dx) R'(p): the implicit function theorem.

Solvers and Jacobian are operators of the `library`; one tensor called `blocks` tells the Jacobian all it needs:

- of type int32: 0 where the weight is 0, or at its bound; else a number that the members of a block, and no others of
  the row, have;
- of a floating-point type: the weights themselves, where every non-zero weight is a block of its own.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from regattn_allennlp.operators.functions import apply_to_all_rows, is_compiling_a_transform, is_plain, nestable
from regattn_allennlp.operators.library import IMPLEMENTATIONS, OPERATORS, library
from regattn_allennlp.operators.penalties import pairwise_maxima_gradient, total_variation_gradient
from regattn_allennlp.operators.rows import Rows, included_positions, solve_problems

PENALTY_GRADIENTS = {"fusedmax": total_variation_gradient, "oscarmax": pairwise_maxima_gradient}


def solve_block_operator(
    name: str,
    scores: Tensor,
    mask: Tensor | None,
    dim: int,
    gamma: float | Tensor,
    lam: float | Tensor | None = None,
    offsets: Tensor | None = None,
) -> Tensor:
    """The weights by the operator `name` ("sparsemax", "fusedmax", "oscarmax"; the last two have a `lam`)."""

    def solve(problem, mask, gamma, offsets, lam=None):  # torch.compile of older PyTorch stops at annotations
        by_lam = () if lam is None else (0.0, lam) if isinstance(lam, Tensor) else (lam, None)
        if is_compiling_a_transform():
            return _solve_in_plain_operations(name, problem, mask, gamma, offsets, *by_lam)
        outputs = _apply(name, problem, mask, gamma, *by_lam, offsets)
        return outputs if name == "sparsemax" else outputs[0]

    parameters = {} if lam is None else {"lam": lam}
    return solve_problems(solve, scores, mask, dim, gamma, offsets, **parameters)


def solve_constrained_sparsemax(
    scores: Tensor, mask: Tensor | None, dim: int, gamma: float, numbers: tuple[float, float, float]
) -> Tensor:
    """
    The weights on the CPU, where nothing but autograd has to see how (see `is_plain`). The `numbers` are the bound,
    the budget and the tolerance.
    """

    def solve(problem: Tensor, mask: Tensor | None, gamma: float, offsets: Tensor | None) -> Tensor:
        return _EagerSolution.apply("constrained_sparsemax", problem, mask, gamma, *numbers, offsets)[0]

    return solve_problems(solve, scores, mask, dim, gamma)


def _apply(name: str, *arguments: Any) -> Any:
    """An operator of the library, by the way that is fastest where autograd stands."""
    if torch.compiler.is_compiling():
        return OPERATORS[name](*arguments)
    if not torch.is_grad_enabled() and is_plain(arguments[0]):
        return IMPLEMENTATIONS[name](*arguments)  # nothing is differentiated or traced
    if torch._C._are_functorch_transforms_active():
        return _Jacobian.apply(*arguments) if name == "jacobian" else _Solution.apply(name, *arguments)
    return _EagerJacobian.apply(*arguments) if name == "jacobian" else _EagerSolution.apply(name, *arguments)


def _apply_below_autograd(name: str, arguments: tuple) -> Any:
    with torch._C._AutoDispatchBelowAutograd():
        return OPERATORS[name](*arguments)


class _Solution(torch.autograd.Function):
    """An operator of the library, for torch.func and forward-mode differentiation, which it cannot have there."""

    @staticmethod
    def forward(name: str, *arguments: Any) -> Any:
        return OPERATORS[name](*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        ctx.name, scores, mask, ctx.gamma, *lam, offsets = inputs
        weights, blocks = (output, output) if isinstance(output, Tensor) else output
        if blocks is not weights:
            ctx.mark_non_differentiable(blocks)
        for_lam = (weights, scores, mask) if lam and isinstance(lam[1], Tensor) else ()
        ctx.save_for_backward(blocks, offsets, *for_lam)
        ctx.save_for_forward(blocks, offsets, *for_lam)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Any) -> tuple:  # type: ignore[override]
        blocks, offsets, *for_lam = ctx.saved_tensors
        gradient = _apply("jacobian", upstream, blocks.detach(), ctx.gamma, offsets)
        if ctx.name == "sparsemax":
            return None, gradient, None, None, None
        if ctx.name == "constrained_sparsemax":
            return None, gradient, *[None] * 6
        lam_gradient = None
        if for_lam:
            penalty_gradient = _penalty_gradient(ctx.name, offsets, *for_lam)
            lam_gradient = -ctx.gamma * Rows(offsets, upstream.size(-1)).sum(gradient * penalty_gradient)
        return None, gradient, None, None, None, lam_gradient, None

    @nestable
    def jvp(ctx: Any, saved: list, _: Any, scores: Tensor, *tangents: Any) -> Any:
        blocks, offsets, *for_lam = saved
        change = scores
        if for_lam:
            *_, lam, _ = tangents
            lam = Rows(offsets, scores.size(-1)).spread(lam)
            change = change - ctx.gamma * lam * _penalty_gradient(ctx.name, offsets, *for_lam)
        weights = _apply("jacobian", change, blocks, ctx.gamma, offsets)
        return weights if ctx.name == "sparsemax" else (weights, None)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *arguments: Any) -> tuple:
        return apply_to_all_rows(_Solution.apply, info, in_dims, arguments)


class _Jacobian(torch.autograd.Function):
    """The Jacobian by the scores times a vector. Being linear and symmetric, it is its own derivative."""

    @staticmethod
    def forward(vector: Tensor, blocks: Tensor, gamma: float, offsets: Tensor | None) -> Tensor:
        return OPERATORS["jacobian"](vector, blocks, gamma, offsets)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        _, blocks, ctx.gamma, offsets = inputs
        ctx.save_for_backward(blocks, offsets)
        ctx.save_for_forward(blocks, offsets)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple:  # type: ignore[override]
        blocks, offsets = ctx.saved_tensors
        return _apply("jacobian", upstream, blocks, ctx.gamma, offsets), None, None, None

    @nestable
    def jvp(ctx: Any, saved: list, vector: Tensor, *_: Any) -> Tensor:
        blocks, offsets = saved
        return _apply("jacobian", vector, blocks, ctx.gamma, offsets)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *arguments: Any) -> tuple:
        return apply_to_all_rows(_Jacobian.apply, info, in_dims, arguments)


class _EagerSolution(torch.autograd.Function):
    """An operator of the library, with much less ceremony than a Function for torch.func, or the library, has."""

    @staticmethod
    def forward(ctx: Any, name: str, *arguments: Any) -> Any:
        if is_plain(arguments[0]):
            output = IMPLEMENTATIONS[name](*arguments)  # nothing is traced or simulated: no dispatcher is needed
        else:
            output = _apply_below_autograd(name, arguments)
        _Solution.setup_context(ctx, (name, *arguments), output)
        return output

    backward = _Solution.backward
    jvp = _Solution.jvp


class _EagerJacobian(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        output = _apply_below_autograd("jacobian", arguments)
        _Jacobian.setup_context(ctx, arguments, output)
        return output

    backward = _Jacobian.backward
    jvp = _Jacobian.jvp


def _solve_in_plain_operations(
    name: str,
    scores: Tensor,
    mask: Tensor | None,
    gamma: float,
    offsets: Tensor | None,
    lam: float | None = None,
    lams: Tensor | None = None,
) -> Tensor:
    """The weights, as a linear function of the scores and the `lams`, with the Jacobian as it is near them."""
    by_lam = () if lam is None else (lam, None if lams is None else lams.detach())
    output = OPERATORS[name](scores.detach(), mask, gamma, *by_lam, offsets)
    weights, blocks = (output, output) if isinstance(output, Tensor) else output
    num_entries = scores.size(-1)
    rows = Rows(offsets, num_entries)
    change = scores - scores.detach()
    if lams is not None:
        penalty_gradient = _penalty_gradient(name, offsets, weights, scores, mask)
        change = change - gamma * rows.spread(lams - lams.detach()) * penalty_gradient
    supported = blocks != 0
    change = change.where(supported, 0)
    mean = rows.spread(rows.sum(change) / rows.sum(supported.to(change.dtype)).clamp(min=1))
    if not blocks.is_floating_point():
        places = blocks.clamp(min=0).long()
        size = 2 * num_entries + 2  # as far as the GPU's kernels number blocks
        if offsets is not None:  # each row has its own numbers
            places = places + 2 * rows.spread(offsets[:-1] + torch.arange(offsets.numel() - 1, device=scores.device))
            size = 2 * (num_entries + offsets.numel())
        none = change.new_zeros(scores.size(0), size)
        sizes = none.scatter_add(-1, places, supported.to(change.dtype))
        change = (none.scatter_add(-1, places, change) / sizes.clamp(min=1)).gather(-1, places)
    return weights + ((change - mean) / gamma).where(supported, 0)


def _penalty_gradient(
    name: str, offsets: Tensor | None, weights: Tensor, scores: Tensor, mask: Tensor | None
) -> Tensor:
    included = included_positions(scores.detach(), mask)
    return PENALTY_GRADIENTS[name](weights.detach(), included, Rows(offsets, scores.size(-1)))


def _register(name: str, setup_context: Callable, backward: Callable) -> None:
    qualified_name = f"regattn_allennlp::{name}"
    torch.library.register_autograd(qualified_name, backward, setup_context=setup_context, lib=library)


def _setup(name: str) -> Callable:
    return lambda ctx, inputs, output: _Solution.setup_context(ctx, (name, *inputs), output)


def _backward(ctx: Any, *upstream: Tensor) -> tuple:
    return _Solution.backward(ctx, *upstream)[1:]  # without the name


for _name in ("sparsemax", "fusedmax", "oscarmax"):
    _register(_name, _setup(_name), _backward)
_register("jacobian", _Jacobian.setup_context, _Jacobian.backward)
