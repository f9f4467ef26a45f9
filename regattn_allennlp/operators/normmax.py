import math
from typing import Any

import torch
from torch import Tensor

from regattn_allennlp.operators.decompositions import at_most, register_decomposition
from regattn_allennlp.operators.functions import (
    apply_to_all_rows,
    differentiable_solution,
    is_compiling_a_transform,
    nestable,
    overridable,
)
from regattn_allennlp.operators.regularized_max import RegularizedMax
from regattn_allennlp.operators.rows import check_gamma, check_number, check_scores, scaled, solve_rows


def check_norm_exponent(exponent: float) -> float:
    return check_number("exponent", exponent, lambda value: value > 1, "above 1")


@overridable
def normmax(
    scores: Tensor, mask: Tensor | None = None, dim: int = -1, gamma: float | Tensor = 1.0, exponent: float = 2.0
) -> Tensor:
    """
    Sparse weights by a norm (Blondel, Martins & Niculae 2020, arXiv 1901.02324, section 4.3; Santos, Niculae, McNamee
    & Martins 2024, arXiv 2402.13725, call it normmax): the solution of

        argmax_{p in simplex} <p, x> - gamma * ||p||_q,    ||p||_q = (sum_i p_i^q)^(1 / q),    q > 1

    with q the `exponent`. A norm is not strictly convex along rays from 0, but these meet the simplex in one point
    each: the solution is unique. Scores gamma or more below the largest get weight exactly 0, and so the largest gets
    all the weight exactly if it is ahead of all others by gamma. Equal scores get equal weights. The larger q, the
    more even are the weights that are not 0: in the limit, Omega being the largest weight, they are all equal. Towards
    q = 1 the largest score gets more and more of the weight.

    The threshold is found by Newton's method to the precision of the dtype, in a number of steps that is enough for
    every row. Above exponent 2 that is done in float64: the weights p_i, as functions of the scores, begin like the
    (q - 1)-th root of what a score is above the threshold. So they change with its last digits, there, and have very
    large derivatives.

    Parameters and errors are those of `RegularizedMax` and its `forward`: `scores` of any floating-point dtype and
    any number of dimensions; `mask` of dtype bool, broadcastable to `scores`, false where the weight is 0; `dim` the
    dimension along which the weights sum to 1; `gamma` > 0, the regularization; `exponent` a number above 1.

    Returns the weights in the shape and dtype of `scores`.
    """
    gamma = check_gamma(gamma)
    exponent = check_norm_exponent(exponent)

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

    check_scores(scores, mask)
    if _is_wide(exponent, scores):
        return solve_rows(solve, scores.double(), mask, dim, gamma=gamma).to(scores.dtype)
    return solve_rows(solve, scores, mask, dim, gamma=gamma)


def _is_wide(exponent: float, tensor: Tensor) -> bool:
    """Whether float64 is needed. (Some devices have none.)"""
    return exponent > 2 and tensor.device.type != "mps"


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
    On the support v_i - t = (p_i / ||p||_q)^(q - 1), so p is proportional to a^(d - 1), where a = max(v - t, 0) and
    d = q / (q - 1), the dual exponent; and ||a||_d = 1, which says what t is.

    The largest value is 0 and so the largest of a is -t =: m. h(m) = ||max(v + m, 0)||_d is convex and grows with m,
    by 1 or more: its slope sum_i (a_i / h)^(d - 1) is between 1 and n^(1 / d) for n values. h(1) is 1 or more, and at
    most n^(1 / d). So Newton's method comes from m = 1 to h(m) = 1 from above, and each step divides (h - 1) * slope
    by 4 or more. At first that is at most n^(2 / d), and it is to fall to the dtype's precision.
    """
    excluded = values == -math.inf
    digits = -math.log2(torch.finfo(values.dtype).eps)
    largest = values.new_ones(values.size(0), 1)
    inverse_dual = (exponent - 1) / exponent
    for _ in range(math.ceil(inverse_dual * math.log2(at_most(values.size(-1))) + digits / 2) + 2):
        ratios, powers = _powers_given_the_largest(values, exponent, largest)
        total = powers.sum(-1, keepdim=True)
        of_duals = (powers * ratios).sum(-1, keepdim=True)  # (||a||_d / m)^d
        slope = total * of_duals ** (-1 / exponent)
        largest = largest - (largest * of_duals**inverse_dual - 1) / slope
    _, powers = _powers_given_the_largest(values, exponent, largest)
    total = powers.masked_fill(excluded, 0.0).sum(-1, keepdim=True)
    return (powers / total.where(total != 0, 1)).masked_fill(excluded, 0.0)


@torch.library.custom_op("regattn_allennlp::normmax", mutates_args=())
def _compiled_weights(values: Tensor, exponent: float) -> Tensor:
    """`_weights` as one operation for torch.compile, which would unroll the steps and take a minute over them."""
    return _weights(values, exponent)


@_compiled_weights.register_fake
def _(values: Tensor, exponent: float) -> Tensor:
    return torch.empty_like(values)


register_decomposition("normmax", _weights)


def _powers_given_the_largest(values: Tensor, exponent: float, largest: Tensor) -> tuple[Tensor, Tensor]:
    """From the largest of a: a over the largest, and that to the power of d - 1 = 1 / (q - 1)."""
    falls = (values / largest).clamp(min=-1)
    return 1 + falls, (torch.log1p(falls) / (exponent - 1)).exp()


def _logarithms(weights: Tensor, exponent: float) -> tuple[Tensor, Tensor, Tensor]:
    """The logarithms of p / ||p||_q, 0 where p is 0; where it is not; and ||p||_q, 1 in a row of zeros."""
    support, norm = weights != 0, _norm(weights, exponent, -1)
    norm = norm.where(norm != 0, 1)
    return (weights.where(support, 1).log() - norm.log()).where(support, 0), support, norm


def _norm(weights: Tensor, exponent: float, dim: int) -> Tensor:
    """||p||_q, 0 in a row of zeros, without NaN in any derivative. Its shape has size 1 at `dim`."""
    if weights.size(dim) == 0:
        return weights.sum(dim, keepdim=True)
    # Relative to the largest weight no power is too small for the dtype in all places.
    support, largest = weights != 0, weights.detach().amax(dim, keepdim=True)
    logarithms = (weights.where(support, 1) / largest.where(largest != 0, 1)).where(support, 1).log()
    powers = (exponent * logarithms).exp().where(support, 0).sum(dim, keepdim=True)
    return largest * powers.where(powers != 0, 1) ** (1 / exponent)


def _slopes(weights: Tensor, exponent: float) -> Tensor:
    """Those of ||p||_q: (p_i / ||p||)^(q - 1); 0 where p is 0."""
    logarithms, support, _ = _logarithms(weights, exponent)
    return ((exponent - 1) * logarithms).exp().where(support, 0)


def _jacobian_product(weights: Tensor, exponent: float, vector: Tensor) -> Tensor:
    """
    As p is proportional to r = a^(d - 1) = p / ||p||, and t changes by <p, u>, p changes by

        ||p|| * (s - p * sum_j s_j),    s_i = r_i^(2 - q) * (u_i - <p, u>) / (q - 1) on the support.
    """
    if weights.numel() == 0:
        return vector.clone()
    logarithms, support, norm = _logarithms(weights, exponent)
    vector = vector.where(support, 0)
    # Above q = 2 small weights could overflow.
    greatest = 0.9 * math.log(torch.finfo(weights.dtype).max)
    factors = ((2 - exponent) * logarithms).clamp(max=greatest).exp().where(support, 0) / (exponent - 1)
    changes = factors * (vector - (weights * vector).sum(-1, keepdim=True))
    return norm * (changes - weights * changes.sum(-1, keepdim=True))


@RegularizedMax.register("normmax")
class Normmax(RegularizedMax):
    """
    `normmax` as a module: Omega(p) = ||p||_q, q the `exponent`.

    # Parameters

    gamma, dim, learn_gamma
        See `RegularizedMax`.
    exponent : float, optional (default = 2.0)
        q, above 1: the larger, the more even are the weights that are not 0.
    """

    def __init__(
        self, gamma: float | Tensor = 1.0, exponent: float = 2.0, dim: int = -1, learn_gamma: bool = False
    ) -> None:
        super().__init__(gamma, dim, learn_gamma)
        self.exponent = check_norm_exponent(exponent)

    def extra_repr(self) -> str:
        return f"exponent={self.exponent}, {super().extra_repr()}"

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        return normmax(scores, mask, self.dim, self.gamma, self.exponent)

    def compute_dtype(self, tensor: Tensor) -> torch.dtype:
        return torch.float64 if _is_wide(self.exponent, tensor) else super().compute_dtype(tensor)

    def omega_at(
        self, positions: Tensor, included: Tensor, dtype: torch.dtype, offsets: Tensor | None = None
    ) -> float:
        return 1.0

    def omega(self, weights: Tensor, mask: Tensor | None = None) -> Tensor:
        return _norm(weights, self.exponent, self.dim).squeeze(self.dim)
