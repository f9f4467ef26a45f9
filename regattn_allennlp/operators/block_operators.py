"""
What sparsemax, fusedmax and oscarmax share: all three are P_simplex(prox(x / gamma)), and have one derivative.

The proximal operator's solution is constant on blocks (single entries, segments, groups), and near x neither the
blocks nor the support S of the weights change. There the Jacobian is

    dp / dx = (1 / gamma) * (averaging within each block of S  -  averaging over all of S),

symmetric, and itself locally constant (Niculae & Blondel 2017, sections 3.2 and 3.3, and the appendix on Jacobians).
With R the penalty that lam weighs, dp / dlam = -gamma * (dp / dx) R'(p): the implicit function theorem.

Solvers and Jacobian are operators of PyTorch's library, `torch.ops.regattn_allennlp.*`, over matrices of rows; one
tensor called `blocks` tells the Jacobian all it needs:

- of type int32: 0 where the weight is 0; else a number that the members of a block, and no others of the row, have;
- of a floating-point type: the weights themselves, where every non-zero weight is a block of its own.
"""

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from regattn_allennlp.operators.decompositions import register_decomposition
from regattn_allennlp.operators.functions import apply_to_all_rows, is_compiling_a_transform, nestable
from regattn_allennlp.operators.penalties import pairwise_maxima_gradient, total_variation_gradient
from regattn_allennlp.operators.rows import (
    COMPUTE_DTYPES,
    check_dim,
    check_scores,
    from_rows,
    included_positions,
    parameter_rows,
    scaled,
    to_rows,
)

PENALTY_GRADIENTS = {"fusedmax": total_variation_gradient, "oscarmax": pairwise_maxima_gradient}


def solve_block_operator(
    name: str,
    scores: Tensor,
    mask: Tensor | None,
    dim: int,
    gamma: float | Tensor,
    lam: float | Tensor | None = None,
) -> Tensor:
    """The weights by the operator `name` ("sparsemax", "fusedmax", "oscarmax"; the last two have a `lam`)."""
    dim, mask = check_dim(dim), check_scores(scores, mask)
    by_lam: tuple = ()
    if lam is not None:
        # Either a number, or a tensor of one lam for each row.
        lam = parameter_rows("lam", lam, scores, dim)
        by_lam = (0.0, lam) if isinstance(lam, Tensor) else (lam, None)
    if isinstance(gamma, Tensor):
        # The solvers take one gamma for all rows: here each row is divided by its own, and autograd sees it.
        problem = scores.to(COMPUTE_DTYPES[scores.dtype])
        problem = to_rows(problem if mask is None else problem.masked_fill(~mask, -math.inf), dim)
        problem, problem_mask, scale = scaled(problem, parameter_rows("gamma", gamma, scores, dim)), None, 1.0
    else:
        problem, problem_mask, scale = to_rows(scores, dim), None if mask is None else to_rows(mask, dim), gamma
    if is_compiling_a_transform():
        weights = _solve_in_plain_operations(name, problem, problem_mask, scale, *by_lam)
    else:
        outputs = _apply(name, problem, problem_mask, scale, *by_lam)
        weights = outputs if name == "sparsemax" else outputs[0]
    return from_rows(weights.to(scores.dtype), scores.shape, dim)


def _apply(name: str, *arguments: Any) -> Any:
    """An operator of the library, by the way that is fastest where autograd stands."""
    if torch.compiler.is_compiling():
        return OPERATORS[name](*arguments)
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
        ctx.name, scores, mask, ctx.gamma, *lam = inputs
        weights, blocks = (output, output) if isinstance(output, Tensor) else output
        if blocks is not weights:
            ctx.mark_non_differentiable(blocks)
        for_lam = (weights, scores, mask) if lam and lam[1] is not None else ()
        ctx.save_for_backward(blocks, *for_lam)
        ctx.save_for_forward(blocks, *for_lam)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Any) -> tuple:  # type: ignore[override]
        blocks, *for_lam = ctx.saved_tensors
        gradient = _apply("jacobian", upstream, blocks.detach(), ctx.gamma)
        if ctx.name == "sparsemax":
            return None, gradient, None, None
        lam_gradient = None
        if for_lam:
            lam_gradient = -ctx.gamma * (gradient * _penalty_gradient(ctx.name, *for_lam)).sum(-1, keepdim=True)
        return None, gradient, None, None, None, lam_gradient

    @nestable
    def jvp(ctx: Any, saved: list, _: Any, scores: Tensor, *tangents: Any) -> Any:
        blocks, *for_lam = saved
        change = scores
        if for_lam:
            change = change - ctx.gamma * tangents[-1] * _penalty_gradient(ctx.name, *for_lam)
        weights = _apply("jacobian", change, blocks, ctx.gamma)
        return weights if ctx.name == "sparsemax" else (weights, None)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *arguments: Any) -> tuple:
        return apply_to_all_rows(_Solution.apply, info, in_dims, arguments)


class _Jacobian(torch.autograd.Function):
    """The Jacobian by the scores times a vector. Being linear and symmetric, it is its own derivative."""

    @staticmethod
    def forward(vector: Tensor, blocks: Tensor, gamma: float) -> Tensor:
        return OPERATORS["jacobian"](vector, blocks, gamma)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        _, blocks, ctx.gamma = inputs
        ctx.save_for_backward(blocks)
        ctx.save_for_forward(blocks)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple:  # type: ignore[override]
        return _apply("jacobian", upstream, ctx.saved_tensors[0], ctx.gamma), None, None

    @nestable
    def jvp(ctx: Any, saved: list, vector: Tensor, *_: Any) -> Tensor:
        return _apply("jacobian", vector, saved[0], ctx.gamma)

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *arguments: Any) -> tuple:
        return apply_to_all_rows(_Jacobian.apply, info, in_dims, arguments)


class _EagerSolution(torch.autograd.Function):
    """An operator of the library, with much less ceremony than a Function for torch.func, or the library, has."""

    @staticmethod
    def forward(ctx: Any, name: str, *arguments: Any) -> Any:
        scores = arguments[0]
        is_plain = type(scores) in (Tensor, torch.nn.Parameter) and not scores.is_meta
        if is_plain and torch._C._len_torch_dispatch_stack() == 0:
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
    name: str, scores: Tensor, mask: Tensor | None, gamma: float, lam: float | None = None, lams: Tensor | None = None
) -> Tensor:
    """The weights, as a linear function of the scores and the `lams`, with the Jacobian as it is near them."""
    by_lam = () if lam is None else (lam, None if lams is None else lams.detach())
    output = OPERATORS[name](scores.detach(), mask, gamma, *by_lam)
    weights, blocks = (output, output) if isinstance(output, Tensor) else output
    change = scores - scores.detach()
    if lams is not None:
        change = change - gamma * (lams - lams.detach()) * _penalty_gradient(name, weights, scores, mask)
    supported = blocks != 0
    change = change.where(supported, 0)
    mean = change.sum(-1, keepdim=True) / supported.sum(-1, keepdim=True).clamp(min=1)
    if not blocks.is_floating_point():
        places = blocks.clamp(min=0).long()
        none = change.new_zeros(scores.size(0), 2 * scores.size(1) + 2)  # as far as the GPU's kernels number blocks
        sizes = none.scatter_add(-1, places, supported.to(change.dtype))
        change = (none.scatter_add(-1, places, change) / sizes.clamp(min=1)).gather(-1, places)
    return weights + ((change - mean) / gamma).where(supported, 0)


def _penalty_gradient(name: str, weights: Tensor, scores: Tensor, mask: Tensor | None) -> Tensor:
    return PENALTY_GRADIENTS[name](weights.detach(), included_positions(scores.detach(), mask))


# The library of PyTorch operators.

_library = torch.library.Library("regattn_allennlp", "DEF")
_library.define("sparsemax(Tensor scores, Tensor? mask, float gamma) -> Tensor")
_library.define("fusedmax(Tensor scores, Tensor? mask, float gamma, float lam, Tensor? lams) -> (Tensor, Tensor)")
_library.define("oscarmax(Tensor scores, Tensor? mask, float gamma, float lam, Tensor? lams) -> (Tensor, Tensor)")
_library.define("jacobian(Tensor vector, Tensor blocks, float gamma) -> Tensor")


def _kernels(rows: Tensor) -> ModuleType:
    """The row solvers for the device of `rows`. Imported when first needed: compilers take long to import."""
    if rows.is_cuda:
        try:
            from regattn_allennlp.operators.kernels import gpu
        except ImportError:  # there is no Triton for this platform
            pass
        else:
            return gpu
    from regattn_allennlp.operators.kernels import cpu  # serves every other device too, by way of a copy

    return cpu


def _sparsemax(scores: Tensor, mask: Tensor | None, gamma: float) -> Tensor:
    return _kernels(scores).sparsemax_rows(scores, mask, gamma)


def _fusedmax(
    scores: Tensor, mask: Tensor | None, gamma: float, lam: float, lams: Tensor | None
) -> tuple[Tensor, Tensor]:
    return _kernels(scores).fusedmax_rows(scores, mask, gamma, lam, None if lams is None else lams.flatten())


def _oscarmax(
    scores: Tensor, mask: Tensor | None, gamma: float, lam: float, lams: Tensor | None
) -> tuple[Tensor, Tensor]:
    return _kernels(scores).oscarmax_rows(scores, mask, gamma, lam, None if lams is None else lams.flatten())


def _jacobian(vector: Tensor, blocks: Tensor, gamma: float) -> Tensor:
    vector = vector.contiguous()
    if blocks.is_floating_point():
        return _kernels(vector).support_jacobian_rows(vector, blocks, gamma)
    return _kernels(vector).block_jacobian_rows(vector, blocks, gamma)


IMPLEMENTATIONS: dict[str, Callable[..., Any]] = {
    "sparsemax": _sparsemax,
    "fusedmax": _fusedmax,
    "oscarmax": _oscarmax,
    "jacobian": _jacobian,
}


def _fake_like_first(first: Tensor, *_: Any) -> Tensor:
    return first.new_empty(first.shape)


def _fake_weights_and_blocks(scores: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return scores.new_empty(scores.shape), scores.new_empty(scores.shape, dtype=torch.int32)


def _register(name: str, fake: Callable, setup_context: Callable, backward: Callable) -> None:
    qualified_name = f"regattn_allennlp::{name}"
    _library.impl(name, IMPLEMENTATIONS[name], "CompositeExplicitAutograd")
    torch.library.register_fake(qualified_name, fake, lib=_library)
    torch.library.register_autograd(qualified_name, backward, setup_context=setup_context, lib=_library)

    def over_batch(info: Any, in_dims: tuple, *arguments: Any) -> tuple:
        return apply_to_all_rows(OPERATORS[name], info, in_dims, arguments)

    torch.library.register_vmap(qualified_name, over_batch, lib=_library)


def _plain_solver(name: str) -> Callable:
    def solver(*arguments: Any) -> Any:
        from regattn_allennlp.operators.kernels import plain

        return getattr(plain, f"{name}_rows")(*arguments)

    return solver


def _setup(name: str) -> Callable:
    return lambda ctx, inputs, output: _Solution.setup_context(ctx, (name, *inputs), output)


def _backward(ctx: Any, *upstream: Tensor) -> tuple:
    return _Solution.backward(ctx, *upstream)[1:]  # without the name


_register("sparsemax", _fake_like_first, _setup("sparsemax"), _backward)
_register("fusedmax", _fake_weights_and_blocks, _setup("fusedmax"), _backward)
_register("oscarmax", _fake_weights_and_blocks, _setup("oscarmax"), _backward)
_register("jacobian", _fake_like_first, _Jacobian.setup_context, _Jacobian.backward)

for _name in ("sparsemax", "fusedmax", "oscarmax"):
    register_decomposition(_name, _plain_solver(_name))

OPERATORS = {name: getattr(torch.ops.regattn_allennlp, name).default for name in IMPLEMENTATIONS}
