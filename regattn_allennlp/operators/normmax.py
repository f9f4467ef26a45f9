import math

import torch
from torch import Tensor

from regattn_allennlp.operators.functions import overridable
from regattn_allennlp.operators.implicit_operators import Regularizer, solve_implicit_operator
from regattn_allennlp.operators.nested import takes_jagged
from regattn_allennlp.operators.regularized_max import RegularizedMax
from regattn_allennlp.operators.rows import Rows, check_gamma, check_number, solve_problems


def check_norm_exponent(exponent: float) -> float:
    return check_number("exponent", exponent, lambda value: value > 1, "above 1")


@overridable
@takes_jagged
def normmax(
    scores: Tensor,
    mask: Tensor | None = None,
    dim: int = -1,
    gamma: float | Tensor = 1.0,
    exponent: float = 2.0,
    offsets: Tensor | None = None,
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

    Newton's method finds the threshold to the precision of the dtype, above exponent 2 in float64: the weights p_i, as
    functions of the scores, begin like the (q - 1)-th root of what a score is above the threshold. So they change with
    its last digits, there, and have very large derivatives.

    Parameters and errors are those of `RegularizedMax` and its `forward`: `scores` of any floating-point dtype and
    any number of dimensions; `mask` of dtype bool, broadcastable to `scores`, false where the weight is 0; `dim` the
    dimension along which the weights sum to 1; `gamma` > 0, the regularization; `exponent` a number above 1;
    `offsets` where packed rows begin.

    Returns the weights in the shape and dtype of `scores`.
    """
    gamma = check_gamma(gamma)
    exponent = check_norm_exponent(exponent)

    def solve(problem, mask, gamma, offsets):  # torch.compile of older PyTorch stops at annotations
        is_wide = _is_wide(exponent, problem)
        return solve_implicit_operator(NORM, problem, mask, gamma, offsets, exponent, is_wide)

    return solve_problems(solve, scores, mask, dim, gamma, offsets)


def _is_wide(exponent: float, tensor: Tensor) -> bool:
    """Whether float64 is needed. (Some devices have none.)"""
    return exponent > 2 and tensor.device.type != "mps"


def _logarithms(weights: Tensor, exponent: float, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
    """The logarithms of p / ||p||_q, 0 where p is 0; where it is not; and ||p||_q, 1 in a row of zeros."""
    support, norm = weights != 0, rows.spread(_norm(weights, exponent, rows))
    norm = norm.where(norm != 0, 1)
    return (weights.where(support, 1).log() - norm.log()).where(support, 0), support, norm


def _norm(weights: Tensor, exponent: float, rows: Rows) -> Tensor:
    """||p||_q of each row, 0 in a row of zeros, without NaN in any derivative."""
    # Relative to the largest weight no power is too small for the dtype in all places.
    support, largest = weights != 0, rows.amax(weights).clamp(min=0)
    ratios = weights / rows.spread(largest.where(largest != 0, 1))
    logarithms = ratios.where(support, 1).log()
    powers = rows.sum((exponent * logarithms).exp().where(support, 0))
    return largest * powers.where(powers != 0, 1) ** (1 / exponent)


def _slopes(weights: Tensor, exponent: float, rows: Rows) -> Tensor:
    """Those of ||p||_q: (p_i / ||p||)^(q - 1); 0 where p is 0."""
    logarithms, support, _ = _logarithms(weights, exponent, rows)
    return ((exponent - 1) * logarithms).exp().where(support, 0)


def _jacobian_product(weights: Tensor, exponent: float, vector: Tensor, rows: Rows) -> Tensor:
    """
    As p is proportional to r = a^(d - 1) = p / ||p||, and t changes by <p, u>, p changes by

        ||p|| * (s - p * sum_j s_j),    s_i = r_i^(2 - q) * (u_i - <p, u>) / (q - 1) on the support.
    """
    logarithms, support, norm = _logarithms(weights, exponent, rows)
    vector = vector.where(support, 0)
    # Above q = 2 small weights could overflow.
    greatest = 0.9 * math.log(torch.finfo(weights.dtype).max)
    factors = ((2 - exponent) * logarithms).clamp(max=greatest).exp().where(support, 0) / (exponent - 1)
    changes = factors * (vector - rows.spread(rows.sum(weights * vector)))
    return norm * (changes - weights * rows.spread(rows.sum(changes)))


NORM = Regularizer("normmax", "normmax_jacobian", _jacobian_product, _slopes)


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

    vertex_omega = 1.0

    def __init__(
        self, gamma: float | Tensor = 1.0, exponent: float = 2.0, dim: int = -1, learn_gamma: bool = False
    ) -> None:
        super().__init__(gamma, dim, learn_gamma)
        self.exponent = check_norm_exponent(exponent)

    def extra_repr(self) -> str:
        return f"exponent={self.exponent}, {super().extra_repr()}"

    def forward(self, scores: Tensor, mask: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        return normmax(scores, mask, self.dim, self.gamma, self.exponent, offsets)

    def compute_dtype(self, tensor: Tensor) -> torch.dtype:
        return torch.float64 if _is_wide(self.exponent, tensor) else super().compute_dtype(tensor)

    def omega(self, weights: Tensor, mask: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        rows = Rows(offsets, weights.size(self.dim))
        norm = _norm(weights.movedim(self.dim, -1), self.exponent, rows)
        return norm.squeeze(-1) if offsets is None else norm.movedim(-1, self.dim)
