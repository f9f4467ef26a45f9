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
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from regattn_allennlp.operators.penalties import pairwise_maxima_gradient, total_variation_gradient
from regattn_allennlp.operators.rows import (
    COMPUTE_DTYPES,
    check_scores,
    from_rows,
    included_positions,
    parameter_rows,
    scaled_rows,
    to_rows,
)

PENALTY_GRADIENTS = {"fusedmax": total_variation_gradient, "oscarmax": pairwise_maxima_gradient}


def solve_block_operator(
    name: str, scores: Tensor, mask: Tensor | None, dim: int, gamma: float | Tensor, *lam: float | Tensor
) -> Tensor:
    """The weights by the operator `name` ("sparsemax", "fusedmax", "oscarmax"; the last two have a `lam`)."""
    mask = check_scores(scores, mask)
    by_row = [parameter_rows("lam", parameter, scores, dim) for parameter in lam]
    if isinstance(gamma, Tensor):
        # The solvers take one gamma for all rows: here each row is divided by its own, and autograd sees it.
        problem = scores.to(COMPUTE_DTYPES[scores.dtype])
        problem = to_rows(problem if mask is None else problem.masked_fill(~mask, -math.inf), dim)
        problem, problem_mask, scale = scaled_rows(problem, parameter_rows("gamma", gamma, scores, dim)), None, 1.0
    else:
        problem, problem_mask, scale = to_rows(scores, dim), None if mask is None else to_rows(mask, dim), gamma
    # Either a number, or a tensor of one lam for each row.
    arguments = [*by_row, None] if lam and not isinstance(by_row[0], Tensor) else [0.0, *by_row] if lam else []
    if torch.compiler.is_compiling():
        outputs = getattr(torch.ops.regattn_allennlp, name)(problem, problem_mask, scale, *arguments)
        weights = outputs if name == "sparsemax" else outputs[0]
    else:
        weights = _Solution.apply(name, problem, problem_mask, scale, *arguments)[0]
    return from_rows(weights.to(scores.dtype), scores.shape, dim)


class _Solution(torch.autograd.Function):
    """(weights, blocks) by an operator of the library; (weights,) where these are the blocks."""

    generate_vmap_rule = True

    @staticmethod
    def forward(name: str, *arguments: Any) -> tuple[Tensor, ...]:
        outputs = getattr(torch.ops.regattn_allennlp, name).default(*arguments)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple[Tensor, ...]) -> None:
        ctx.name, scores, mask, ctx.gamma, *lam = inputs
        lams = lam[1] if lam else None
        if len(output) > 1:
            ctx.mark_non_differentiable(output[1])
        if lams is None:
            ctx.save_for_backward(output[-1])
            ctx.save_for_forward(output[-1])
        else:
            ctx.save_for_backward(output[-1], output[0], scores, mask)
            ctx.save_for_forward(output[-1], output[0], scores, mask)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, *_: Any) -> tuple:  # type: ignore[override]
        blocks, *for_lam = ctx.saved_tensors
        gradient = _Jacobian.apply(upstream, blocks.detach(), ctx.gamma)
        if ctx.name == "sparsemax":
            return None, gradient, None, None
        return None, gradient, None, None, None, _lam_gradient(ctx.name, gradient * ctx.gamma, *for_lam)

    @staticmethod
    def jvp(ctx: Any, _: Any, scores: Tensor, *tangents: Any) -> tuple:
        blocks, *for_lam = ctx.saved_tensors
        change = scores
        if for_lam:
            change = change - ctx.gamma * tangents[-1] * _penalty_gradient(ctx.name, *for_lam)
        weights = _Jacobian.apply(change, blocks, ctx.gamma)
        return (weights,) if ctx.name == "sparsemax" else (weights, None)


class _Jacobian(torch.autograd.Function):
    """The Jacobian by the scores times a vector. Being linear and symmetric, it is its own derivative."""

    generate_vmap_rule = True

    @staticmethod
    def forward(vector: Tensor, blocks: Tensor, gamma: float) -> Tensor:
        return torch.ops.regattn_allennlp.jacobian.default(vector, blocks, gamma)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        _, blocks, ctx.gamma = inputs
        ctx.save_for_backward(blocks)
        ctx.save_for_forward(blocks)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return _Jacobian.apply(upstream, ctx.saved_tensors[0], ctx.gamma), None, None

    @staticmethod
    def jvp(ctx: Any, vector: Tensor, *_: Any) -> Tensor:
        return _Jacobian.apply(vector, ctx.saved_tensors[0], ctx.gamma)


def _penalty_gradient(name: str, weights: Tensor, scores: Tensor, mask: Tensor | None) -> Tensor:
    return PENALTY_GRADIENTS[name](weights.detach(), included_positions(scores.detach(), mask))


def _lam_gradient(name: str, projected: Tensor, *for_lam: Any) -> Tensor | None:
    """The gradient by the lam of each row, `projected` being gamma times the gradient by the scores."""
    return -(projected * _penalty_gradient(name, *for_lam)).sum(-1, keepdim=True) if for_lam else None


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
            if rows.size(1) <= gpu.MAX_LENGTH:
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


def _fake_like_first(first: Tensor, *_: Any) -> Tensor:
    return first.new_empty(first.shape)


def _fake_weights_and_blocks(scores: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return scores.new_empty(scores.shape), scores.new_empty(scores.shape, dtype=torch.int32)


def _register(name: str, function: Any, fake: Any, setup_context: Any, backward: Any) -> None:
    qualified_name = f"regattn_allennlp::{name}"
    _library.impl(name, function, "CompositeExplicitAutograd")
    torch.library.register_fake(qualified_name, fake, lib=_library)
    torch.library.register_autograd(qualified_name, backward, setup_context=setup_context, lib=_library)

    def over_batch(info: Any, in_dims: tuple, *arguments: Any) -> tuple:
        flat = [
            argument if not isinstance(argument, Tensor) else _flatten(argument, in_dim, info.batch_size)
            for argument, in_dim in zip(arguments, in_dims, strict=True)
        ]
        outputs = getattr(torch.ops.regattn_allennlp, name)(*flat)
        if isinstance(outputs, Tensor):
            return outputs.unflatten(0, (info.batch_size, -1)), 0
        return tuple(output.unflatten(0, (info.batch_size, -1)) for output in outputs), (0,) * len(outputs)

    torch.library.register_vmap(qualified_name, over_batch, lib=_library)


def _flatten(rows: Tensor, in_dim: int | None, batch_size: int) -> Tensor:
    rows = rows.expand(batch_size, *rows.shape) if in_dim is None else rows.movedim(in_dim, 0)
    return rows.flatten(0, 1).contiguous()


def _save_solution(name: str) -> Any:
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        _Solution.setup_context(ctx, (name, *inputs), output if isinstance(output, tuple) else (output,))

    return setup_context


def _solution_backward(ctx: Any, upstream: Tensor, *_: Any) -> tuple:
    blocks, *for_lam = ctx.saved_tensors
    gradient = torch.ops.regattn_allennlp.jacobian(upstream, blocks, ctx.gamma)
    if ctx.name == "sparsemax":
        return gradient, None, None
    return gradient, None, None, None, _lam_gradient(ctx.name, gradient * ctx.gamma, *for_lam)


def _jacobian_backward(ctx: Any, upstream: Tensor) -> tuple:
    return torch.ops.regattn_allennlp.jacobian(upstream, ctx.saved_tensors[0], ctx.gamma), None, None


_register("sparsemax", _sparsemax, _fake_like_first, _save_solution("sparsemax"), _solution_backward)
_register("fusedmax", _fusedmax, _fake_weights_and_blocks, _save_solution("fusedmax"), _solution_backward)
_register("oscarmax", _oscarmax, _fake_weights_and_blocks, _save_solution("oscarmax"), _solution_backward)
_register("jacobian", _jacobian, _fake_like_first, _Jacobian.setup_context, _jacobian_backward)
