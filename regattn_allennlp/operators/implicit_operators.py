"""
What entmax and squared_p_norm_max share: a regularizer with a slope everywhere on the support. There, with the weights
p, the scores less gamma times the slopes are equal. So the implicit function theorem gives the Jacobian, a function of
the weights alone, and so all higher derivatives too.

First derivatives are operators of the `library`, as the solvers are. Higher ones are made of PyTorch's own operations.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from regattn_allennlp.operators.functions import (
    apply_to_all_rows,
    differentiable_solution,
    is_compiling_a_transform,
    is_plain,
    nestable,
)
from regattn_allennlp.operators.library import IMPLEMENTATIONS, OPERATORS, has_kernel
from regattn_allennlp.operators.rows import COMPUTE_DTYPES, Rows


class Regularizer(NamedTuple):
    """
    Functions of the weights, the regularizer's parameter (a number, or a tensor that broadcasts to the weights), and
    the `Rows`.

    # Parameters

    solver, jacobian : names in the `library`.
    jacobian_product : also of a vector: the Jacobian of the weights by the scores, for gamma = 1, times the vector.
    slopes : those of Omega, but for a constant; 0 where the weight is 0.
    slopes_by_parameter : how the slopes change with the parameter, of the weights and the parameter; None if that is
        never a tensor.
    parameter_gradient : name of the kernel that, of the gradient by the scores, makes that by the parameter.
    """

    solver: str
    jacobian: str
    jacobian_product: Callable[[Tensor, Any, Tensor, Rows], Tensor]
    slopes: Callable[[Tensor, Any, Rows], Tensor]
    slopes_by_parameter: Callable[[Tensor, Any], Tensor] | None = None
    parameter_gradient: str = ""

    def arguments(self, number: float, tensor: Tensor | None, *rest: Any) -> tuple:
        """What the operators of the library take: the parameter as a number, and what else if it may be a tensor."""
        return (number,) if self.slopes_by_parameter is None else (number, tensor, *rest)


def solve_implicit_operator(
    regularizer: Regularizer,
    problem: Tensor,
    mask: Tensor | None,
    gamma: float,
    offsets: Tensor | None,
    parameter: float | Tensor,
    is_wide: bool = False,
) -> Tensor:
    """
    The weights, as a solver of `solve_problems`. If `is_wide`, what is not done by the library's operators is done in
    float64.
    """
    number, tensor = (0.0, parameter) if isinstance(parameter, Tensor) else (parameter, None)
    problem = problem.to(COMPUTE_DTYPES[problem.dtype])  # the Jacobian is that of the weights before they are rounded
    if not is_compiling_a_transform():
        function: Any = _EagerSolution
        if torch.compiler.is_compiling():
            function = _Solution
        elif torch._C._are_functorch_transforms_active():
            function = _SolutionInForwardMode
        return function.apply(regularizer, problem, mask, gamma, number, tensor, is_wide, offsets)
    arguments = regularizer.arguments(number, None if tensor is None else tensor.detach(), is_wide)
    weights = OPERATORS[regularizer.solver](problem.detach(), mask, gamma, *arguments, offsets)
    rows = Rows(offsets, problem.size(-1))
    dtype = _compute_dtype(weights, is_wide)
    parameter = rows.spread(parameter)
    return differentiable_solution(
        weights.to(dtype),
        problem.to(dtype) / gamma,
        lambda weights: regularizer.slopes(weights, parameter, rows),
        lambda weights, vector: regularizer.jacobian_product(weights, parameter, vector, rows),
    )


def _compute_dtype(weights: Tensor, is_wide: bool) -> torch.dtype:
    return torch.float64 if is_wide and weights.device.type != "mps" else COMPUTE_DTYPES[weights.dtype]


class _Solution(torch.autograd.Function):
    @staticmethod
    def forward(
        regularizer: Regularizer,
        scores: Tensor,
        mask: Tensor | None,
        gamma: float,
        number: float,
        tensor: Tensor | None,
        is_wide: bool,
        offsets: Tensor | None,
    ) -> Tensor:
        arguments = (scores, mask, gamma, *regularizer.arguments(number, tensor, is_wide), offsets)
        return (IMPLEMENTATIONS if is_plain(scores) else OPERATORS)[regularizer.solver](*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        ctx.regularizer, _, _, ctx.gamma, ctx.number, tensor, ctx.is_wide, offsets = inputs
        ctx.save_for_backward(output, tensor, offsets)
        ctx.save_for_forward(output, tensor, offsets)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple:  # type: ignore[override]
        weights, tensor, offsets = ctx.saved_tensors
        name = ctx.regularizer.jacobian
        may_use_kernels = not torch.is_grad_enabled() and is_plain(upstream)
        if may_use_kernels and has_kernel(name, upstream):
            arguments = ctx.regularizer.arguments(ctx.number, tensor)
            gradient = IMPLEMENTATIONS[name](upstream, weights, *arguments, offsets)
        else:
            gradient = _jacobian_product(ctx, weights, tensor, offsets, upstream)
        by_tensor = None
        if ctx.needs_input_grad[5]:
            name = ctx.regularizer.parameter_gradient
            if may_use_kernels and has_kernel(name, upstream):
                by_tensor = IMPLEMENTATIONS[name](gradient, weights, tensor, offsets)
            else:
                rows = Rows(offsets, weights.size(-1))
                by_tensor = -rows.sum(gradient * ctx.regularizer.slopes_by_parameter(weights, rows.spread(tensor)))
        gradient = gradient if ctx.gamma == 1 else gradient / ctx.gamma
        return None, gradient, None, None, None, by_tensor, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *arguments: Any) -> tuple:
        return apply_to_all_rows(_SolutionInForwardMode.apply, info, in_dims, arguments)


class _SolutionInForwardMode(_Solution):
    """`_Solution` with forward-mode differentiation, whose presence keeps torch.compile from tracing a Function."""

    @nestable
    def jvp(ctx: Any, saved: list, _: Any, scores: Tensor | None, *tangents: Any) -> Tensor:
        weights, tensor, offsets = saved
        *_, change_of_tensor, _, _ = tangents
        change = torch.zeros_like(weights) if scores is None else scores / ctx.gamma
        if change_of_tensor is not None:
            rows = Rows(offsets, weights.size(-1))
            slopes = ctx.regularizer.slopes_by_parameter(weights, rows.spread(tensor))
            change = change - rows.spread(change_of_tensor) * slopes
        return _jacobian_product(ctx, weights, tensor, offsets, change)


class _EagerSolution(torch.autograd.Function):
    """The same, with much less ceremony than a Function for torch.func has."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:  # type: ignore[override]
        output = _Solution.forward(*arguments)
        _Solution.setup_context(ctx, arguments, output)
        return output

    backward = _Solution.backward
    jvp = _SolutionInForwardMode.jvp


def _jacobian_product(
    ctx: Any, weights: Tensor, tensor: Tensor | None, offsets: Tensor | None, vector: Tensor
) -> Tensor:
    """In PyTorch's own operations, for gamma = 1."""
    dtype, rows = _compute_dtype(weights, ctx.is_wide), Rows(offsets, weights.size(-1))
    parameter = ctx.number if tensor is None else rows.spread(tensor)
    product = ctx.regularizer.jacobian_product(weights.to(dtype), parameter, vector.to(dtype), rows)
    return product.to(vector.dtype)
