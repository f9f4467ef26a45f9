"""
The derivative that sparsemax, fusedmax and oscarmax share.

All three are P_simplex(prox(x / gamma)). The proximal operator's solution is constant on blocks (single entries,
segments, groups), and near x neither the blocks nor the support S of the weights change. There the Jacobian is

    dp / dx = (1 / gamma) * (averaging within each block of S  -  averaging over all of S),

symmetric, and itself locally constant (Niculae & Blondel 2017, sections 3.2 and 3.3, and the appendix on Jacobians).
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

RowSolver = Callable[[ModuleType, Tensor], tuple[Tensor, Tensor]]


def row_kernels(device: torch.device) -> ModuleType:
    """The row solvers for tensors on `device`. Imported when first needed: compilers take long to import."""
    from regattn_allennlp.operators.kernels import cpu  # serves every device, by way of a copy

    return cpu


class BlockSolution(torch.autograd.Function):
    """The weights of all rows, by `solver(kernels, scores)`; differentiable any number of times."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, gamma: float, solver: RowSolver) -> Tensor:
        weights, blocks = solver(row_kernels(scores.device), scores)
        ctx.save_for_backward(weights, blocks)
        ctx.gamma = gamma
        return weights

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        weights, blocks = ctx.saved_tensors
        return BlockJacobian.apply(upstream, weights.detach(), blocks, ctx.gamma), None, None


class BlockJacobian(torch.autograd.Function):
    """The Jacobian of `BlockSolution` times a vector. Being linear and symmetric, it is its own derivative."""

    @staticmethod
    def forward(ctx: Any, upstream: Tensor, weights: Tensor, blocks: Tensor, gamma: float) -> Tensor:
        ctx.save_for_backward(weights, blocks)
        ctx.gamma = gamma
        return row_kernels(upstream.device).jacobian_rows(upstream, weights, blocks, gamma)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        weights, blocks = ctx.saved_tensors
        return BlockJacobian.apply(upstream, weights, blocks, ctx.gamma), None, None, None
