import math
from typing import Any

import torch
from torch import Tensor

from regattn_allennlp.operators.decompositions import register_decomposition
from regattn_allennlp.operators.functions import (
    apply_to_all_rows,
    differentiable_solution,
    is_compiling_a_transform,
    nestable,
    overridable,
)
from regattn_allennlp.operators.regularized_max import RegularizedMax
from regattn_allennlp.operators.rows import check_gamma, check_number, scaled, solve_rows
from regattn_allennlp.operators.sparsemax import sparsemax


def check_exponent(exponent: float) -> float:
    return check_number("exponent", exponent, lambda value: 1 < value <= 2, "above 1 and not above 2")


@overridable
def squared_p_norm_max(
    scores: Tensor, mask: Tensor | None = None, dim: int = -1, gamma: float | Tensor = 1.0, exponent: float = 1.5
) -> Tensor:
    """
    Sparse weights by a squared p-norm (Niculae & Blondel 2017, arXiv 1705.07704, section 3.1): the solution of

        argmax_{p in simplex} <p, x> - gamma * 1/2 ||p||_q^2,    ||p||_q = (sum_i p_i^q)^(1 / q),    1 < q <= 2

    with q the `exponent`. At 2 this is `sparsemax`; the nearer to 1, the more of the weights are small, but not 0.
    Scores gamma or more below the largest get weight exactly 0.

    The threshold is found by bisection, to the precision of the dtype.

    Parameters and errors are those of `RegularizedMax` and its `forward`: `scores` of any floating-point dtype and
    any number of dimensions; `mask` of dtype bool, broadcastable to `scores`, false where the weight is 0; `dim` the
    dimension along which the weights sum to 1; `gamma` > 0, the regularization; `exponent` a number above 1 and not
    above 2.

    Returns the weights in the shape and dtype of `scores`.
    """
    gamma = check_gamma(gamma)
    exponent = check_exponent(exponent)
    if exponent == 2:
        return sparsemax(scores, mask, dim, gamma)

    def solve(rows, gamma):  # torch.compile of older PyTorch stops at annotations
        values = scaled(rows, gamma)
        if not is_compiling_a_transform():
            function = _Solution if torch.compiler.is_compiling() else _SolutionInForwardMode
            return function.apply(values, exponent)
        return differentiable_solution(
            _Solution.forward(values.detach(), exponent),
            values,
            lambda weights: _slopes(weights, exponent),
            lambda weights, vector: _jacobian_product(weights, exponent, vector),
        )

    return solve_rows(solve, scores, mask, dim, gamma=gamma)


class _Solution(torch.autograd.Function):
    """
    The weights for gamma = 1, from `values` of shape (num_rows, row_length) as `scaled` gives them. All
    derivatives are functions of the weights, so they have derivatives too.
    """

    @staticmethod
    def forward(values: Tensor, exponent: float) -> Tensor:
        if values.numel() == 0:
            return values.clone()
        return (_compiled_weights if torch.compiler.is_compiling() else _weights)(values, exponent)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        _, ctx.exponent = inputs
        ctx.save_for_backward(output)
        ctx.save_for_forward(output)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return _jacobian_product(ctx.saved_tensors[0], ctx.exponent, upstream), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *arguments: Any) -> tuple:
        return apply_to_all_rows(_SolutionInForwardMode.apply, info, in_dims, arguments)


class _SolutionInForwardMode(_Solution):
    """`_Solution` with forward-mode differentiation, whose presence keeps torch.compile from tracing a Function."""

    @nestable
    def jvp(ctx: Any, saved: list, values: Tensor, _: None) -> Tensor:
        return _jacobian_product(saved[0], ctx.exponent, values)


def _weights(values: Tensor, exponent: float) -> Tensor:
    """
    On the support v_i - t = ||p||_q^(2 - q) * p_i^(q - 1), so p is proportional to a^(d - 1), where a = max(v - t, 0)
    and d = q / (q - 1), the dual exponent. This p sums to 1 where the derivative of the convex dual problem,
    min_t t + 1/2 ||a||_d^2, is 0:

        ||a||_d^(2 - d) * sum_i a_i^(d - 1) = 1

    The largest value is 0 and so the largest of a is -t =: m. The left side grows with m; it is at least m, and for n
    values at most m * n^(2 / d). So log m is bracketed, and the bracket is halved.
    """
    excluded = values == -math.inf
    dual = exponent / (exponent - 1)
    high = values.new_zeros(values.size(0), 1)
    low = excluded.logical_not().sum(-1, keepdim=True).clamp(min=1).to(values.dtype).log() * (-2 / dual)
    for _ in range(math.ceil(-math.log2(torch.finfo(values.dtype).eps)) + 5):
        middle = (low + high) / 2
        ratios, powers = _powers_given_the_largest(values, dual, middle)
        # The logarithm of the left side, with a = m * ratios.
        total = powers.sum(-1, keepdim=True).log()
        norm = (powers * ratios).sum(-1, keepdim=True).log() / dual
        above = middle + total + (2 - dual) * norm >= 0
        low, high = low.where(above, middle), middle.where(above, high)
    _, powers = _powers_given_the_largest(values, dual, (low + high) / 2)
    return (powers / powers.sum(-1, keepdim=True)).masked_fill(excluded, 0.0)


@torch.library.custom_op("regattn_allennlp::squared_p_norm_max", mutates_args=())
def _compiled_weights(values: Tensor, exponent: float) -> Tensor:
    """`_weights` as one operation for torch.compile, which would unroll the steps and take a minute over them."""
    return _weights(values, exponent)


@_compiled_weights.register_fake
def _(values: Tensor, exponent: float) -> Tensor:
    return torch.empty_like(values)


register_decomposition("squared_p_norm_max", _weights)


def _powers_given_the_largest(values: Tensor, dual: float, largest: Tensor) -> tuple[Tensor, Tensor]:
    """From the logarithm of the largest of a: a over the largest, and that to the power of dual - 1."""
    falls = (values * (-largest).exp()).clamp(min=-1)
    return 1 + falls, (torch.log1p(falls) * (dual - 1)).exp()


def _slopes(weights: Tensor, exponent: float) -> Tensor:
    """Those of 1/2 ||p||_q^2: ||p||^(2 - q) * p_i^(q - 1); 0 where p is 0."""
    support = weights != 0
    logarithms = weights.where(support, 1).log()
    powers = (exponent * logarithms).exp().where(support, 0).sum(-1, keepdim=True)
    norm = powers.where(powers != 0, 1) ** (1 / exponent)
    return norm ** (2 - exponent) * ((exponent - 1) * logarithms).exp().where(support, 0)


def _jacobian_product(weights: Tensor, exponent: float, vector: Tensor) -> Tensor:
    """
    K u - K 1 * (1^T K u) / (1^T K 1), where K is the inverse, on the support, of the Hessian of 1/2 ||p||_q^2:

        K = (||p||^(q - 2) * diag(p^(2 - q)) - (2 - q) * ||p||^(-2) * p p^T) / (q - 1)

    by the formula of Sherman and Morrison: the Hessian is a diagonal matrix and the product of a vector with itself.
    """
    support = weights != 0
    logarithms = weights.where(support, 1).log()
    vector = vector.where(support, 0)
    powers = (exponent * logarithms).exp().where(support, 0).sum(-1, keepdim=True)
    norm = powers.where(powers != 0, 1) ** (1 / exponent)
    diagonal = norm ** (exponent - 2) * ((2 - exponent) * logarithms).exp().where(support, 0)
    factor = (2 - exponent) * norm**-2

    of_vector = diagonal * vector - factor * weights * (weights * vector).sum(-1, keepdim=True)
    of_ones = diagonal - factor * weights * weights.sum(-1, keepdim=True)
    total = of_ones.sum(-1, keepdim=True)
    mean = of_vector.sum(-1, keepdim=True) / total.where(total != 0, 1)
    return (of_vector - of_ones * mean) / (exponent - 1)


@RegularizedMax.register("squared_p_norm_max")
class SquaredPNormMax(RegularizedMax):
    """
    `squared_p_norm_max` as a module: Omega(p) = 1/2 ||p||_q^2, q the `exponent`.

    # Parameters

    gamma, dim, learn_gamma
        See `RegularizedMax`.
    exponent : float, optional (default = 1.5)
        q, above 1 and not above 2, where it is sparsemax.
    """

    def __init__(
        self, gamma: float | Tensor = 1.0, exponent: float = 1.5, dim: int = -1, learn_gamma: bool = False
    ) -> None:
        super().__init__(gamma, dim, learn_gamma)
        exponent = check_exponent(exponent)
        self.exponent = exponent

    def extra_repr(self) -> str:
        return f"exponent={self.exponent}, {super().extra_repr()}"

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        return squared_p_norm_max(scores, mask, self.dim, self.gamma, self.exponent)

    def omega_at(self, positions: Tensor, included: Tensor, dtype: torch.dtype) -> float:
        return 0.5

    def omega(self, weights: Tensor, mask: Tensor | None = None) -> Tensor:
        # The sum, of which a root is taken, is 0 in a row with nothing in it: then no derivative may be infinite.
        support = weights != 0
        powers = weights.where(support, 1).pow(self.exponent).where(support, 0).sum(self.dim)
        return powers.where(powers != 0, 1).pow(2 / self.exponent).where(powers != 0, 0) / 2
