import math

import torch
from torch import Tensor

from regattn_allennlp.operators.functions import overridable
from regattn_allennlp.operators.implicit_operators import Regularizer, solve_implicit_operator
from regattn_allennlp.operators.nested import takes_jagged
from regattn_allennlp.operators.regularized_max import RegularizedMax
from regattn_allennlp.operators.rows import (
    Rows,
    check_gamma,
    check_number,
    check_parameter,
    solve_problems,
    sum_of_rows,
)
from regattn_allennlp.operators.softmax import softmax
from regattn_allennlp.operators.sparsemax import sparsemax

# alpha - 1 divides. This stands for 0: all results are the same, for float32 too, and nothing overflows.
LEAST_ORDER = 1e-30


def check_alpha(alpha: float | Tensor) -> float | Tensor:
    return check_parameter("alpha", alpha, lambda value: value >= 1, "1 or above")


def check_max_alpha(max_alpha: float) -> float:
    return check_number("max_alpha", max_alpha, lambda value: value > 1, "above 1")


@overridable
@takes_jagged
def entmax(
    scores: Tensor,
    mask: Tensor | None = None,
    dim: int = -1,
    gamma: float | Tensor = 1.0,
    alpha: float | Tensor = 1.5,
    offsets: Tensor | None = None,
) -> Tensor:
    """
    Weights between those of softmax and sparsemax, and beyond (Peters, Niculae & Martins 2019, arXiv 1905.05702,
    section 3): the solution of

        argmax_{p in simplex} <p, x> - gamma * sum_i (p_i^alpha - p_i) / (alpha * (alpha - 1)),

    the regularizer being the negative Tsallis entropy. At alpha = 1, in the limit, this is `softmax`, and at alpha = 2
    `sparsemax`; from alpha just above 1 on, scores far enough below the largest get weight exactly 0: those
    gamma / (alpha - 1) or more below it always.

    Newton's method finds the solution to the precision of the dtype: for an alpha above 2 in float64, where small
    weights move by many times what their scores do, rounding included.

    Parameters and errors are those of `RegularizedMax` and its `forward`: `scores` of any floating-point dtype and
    any number of dimensions; `mask` of dtype bool, broadcastable to `scores`, false where the weight is 0; `dim` the
    dimension along which the weights sum to 1; `gamma` > 0, the regularization; `alpha` >= 1; `offsets` where packed
    rows begin. Gamma and alpha may be tensors that broadcast to `scores` with size 1 at `dim`, one for each row or
    head, and may require gradients (that by alpha is that of Correia, Niculae & Martins 2019, arXiv 1909.00015,
    section 3.2). Where such an alpha is not a finite number, 1 or above, the row's weights are NaN.

    Returns the weights in the shape and dtype of `scores`.
    """
    gamma = check_gamma(gamma)
    alpha = check_alpha(alpha)
    return solve_entmax(scores, mask, dim, gamma, alpha, _may_exceed_2(alpha), offsets)


def _may_exceed_2(alpha: float | Tensor) -> bool:
    return isinstance(alpha, Tensor) or alpha > 2


@overridable
@takes_jagged
def solve_entmax(
    scores: Tensor,
    mask: Tensor | None,
    dim: int,
    gamma: float | Tensor,
    alpha: float | Tensor,
    may_exceed_2: bool,
    offsets: Tensor | None = None,
) -> Tensor:
    """`entmax`, for which less has to be done if an alpha, in a tensor too, is known not to exceed 2."""
    if not isinstance(alpha, Tensor):
        if alpha == 1 and offsets is None:
            return softmax(scores, mask, dim, gamma)
        if alpha == 2:
            return sparsemax(scores, mask, dim, gamma, offsets)

    def solve(problem, mask, gamma, offsets, alpha):  # torch.compile of older PyTorch stops at annotations
        return solve_implicit_operator(ENTMAX, problem, mask, gamma, offsets, alpha, may_exceed_2)

    return solve_problems(solve, scores, mask, dim, gamma, offsets, alpha=alpha)


def _jacobian_product(weights: Tensor, alpha: float | Tensor, vector: Tensor, rows: Rows) -> Tensor:
    """(diag(s) - s s^T / sum(s)) times the vector, where s = p^(2 - alpha) on the support and 0 elsewhere."""
    logarithms, support = _logarithms(weights)
    exponents = (2 - alpha) * logarithms
    # Above alpha = 2 small weights could overflow.
    s = exponents.clamp(max=0.9 * math.log(torch.finfo(weights.dtype).max)).exp().where(support, 0)
    # The product is the same for a vector with a constant added. With 0 where s is largest, which may be by 1e20, no
    # digits of the others are lost in the mean.
    largest = rows.spread(rows.amax(exponents.masked_fill(~support, -math.inf)))
    is_largest = (support & (exponents >= largest)).to(vector.dtype)
    vector = vector.where(support, 0)
    vector = vector - rows.spread(rows.sum(vector * is_largest) / rows.sum(is_largest).clamp(min=1))
    total = rows.spread(rows.sum(s))
    mean = rows.spread(rows.sum(s * vector)) / total.where(total != 0, 1)
    return s * (vector - mean)


def _slopes(weights: Tensor, alpha: float | Tensor, rows: Rows) -> Tensor:
    """Those of Omega, (p_i^a - 1) / a with a = alpha - 1, but for a constant; 0 where p is 0."""
    logarithms, support = _logarithms(weights)
    return (logarithms * exponential_moment(0, (alpha - 1) * logarithms)).where(support, 0)


def _slope_by_alpha(weights: Tensor, alpha: float | Tensor) -> Tensor:
    """How `_slopes` change with alpha."""
    logarithms, support = _logarithms(weights)
    return (logarithms.square() * exponential_moment(1, (alpha - 1) * logarithms)).where(support, 0)


def _logarithms(weights: Tensor) -> tuple[Tensor, Tensor]:
    """The logarithms of the weights, 0 where they are 0, without NaN in any derivative; and where they are not 0."""
    support = weights != 0
    return weights.where(support, 1).log(), support


def exponential_moment(power: int, x: Tensor) -> Tensor:
    """
    The integral of t^power * exp(x * t) over t from 0 to 1, which is the derivative of that with one power less:
    (exp(x) - 1) / x for power 0, (x * exp(x) - exp(x) + 1) / x^2 for 1. Exact near 0 too, with all derivatives.
    """
    near = x.abs() < 0.5
    small = x.where(near, 0)
    series = torch.zeros_like(x)
    for degree in reversed(range(15)):
        series = series * small + 1 / (math.factorial(degree) * (degree + power + 1))
    large = x.where(~near, 1)
    moment = torch.expm1(large) / large
    for lower in range(power):
        moment = (large.exp() - (lower + 1) * moment) / large
    return series.where(near, moment)


ENTMAX = Regularizer("entmax", "entmax_jacobian", _jacobian_product, _slopes, _slope_by_alpha, "entmax_alpha_gradient")


@RegularizedMax.register("entmax")
class Entmax(RegularizedMax):
    """
    `entmax` as a module: Omega(p) = sum_i (p_i^alpha - p_i) / (alpha * (alpha - 1)), at alpha = 1 its limit
    sum_i p_i log p_i.

    # Parameters

    gamma, dim, learn_gamma
        See `RegularizedMax`.
    alpha : float or Tensor, optional (default = 1.5)
        1 or above: softmax is 1, sparsemax is 2. A tensor must broadcast to the scores with size 1 at `dim`: one
        alpha for each row, or head; it may require a gradient.
    learn_alpha : bool, optional (default = False)
        Make alpha a parameter of the module, kept between 1 and `max_alpha`; `alpha` is where it starts.
    max_alpha : float, optional (default = 2.0)
        What a learned alpha stays below. Without a bound it grows on and on where one position is to get all the
        weight. (Correia, Niculae & Martins 2019, arXiv 1909.00015, section 3.2, learn alpha between 1 and 2 too.)
    """

    vertex_omega = 0.0

    shape_parameter = "alpha"

    def __init__(
        self,
        gamma: float | Tensor = 1.0,
        alpha: float | Tensor = 1.5,
        dim: int = -1,
        learn_gamma: bool = False,
        learn_alpha: bool = False,
        max_alpha: float = 2.0,
    ) -> None:
        super().__init__(gamma, dim, learn_gamma)
        self.max_alpha = check_max_alpha(max_alpha)
        self.upper_bounds = {"alpha": self.max_alpha}
        self.set_regularization("alpha", check_alpha(alpha), learn_alpha)

    @property
    def alpha(self) -> float | Tensor:
        return self.get_regularization("alpha")

    @alpha.setter
    def alpha(self, alpha: float | Tensor) -> None:
        self.replace_regularization("alpha", check_alpha(alpha))

    def forward(self, scores: Tensor, mask: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        return solve_entmax(scores, mask, self.dim, self.gamma, self.alpha, self._may_exceed_2(), offsets)

    def entmax_alpha(self) -> float | None:
        return None if isinstance(self.alpha, Tensor) else self.alpha

    def _may_exceed_2(self) -> bool:
        return self.max_alpha > 2 if self.learns("alpha") else _may_exceed_2(self.alpha)

    def compute_dtype(self, tensor: Tensor) -> torch.dtype:
        is_wide = self._may_exceed_2() and tensor.device.type != "mps"
        return torch.float64 if is_wide else super().compute_dtype(tensor)

    def omega(self, weights: Tensor, mask: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        alpha = self.by_entry(self.alpha, weights, offsets)
        if not isinstance(alpha, Tensor) and alpha > 1.05:  # as below, but near 1 that loses digits
            support = weights != 0
            terms = (weights.where(support, 1).pow(alpha) - weights) / (alpha * (alpha - 1))
        else:
            logarithms, support = _logarithms(weights)
            # p * ((p^a - 1) / a) / alpha, a = alpha - 1
            terms = weights * logarithms * exponential_moment(0, (alpha - 1) * logarithms) / alpha
        # At p = 0 the slope is -1 / (a * alpha).
        slope_at_0 = -1 / (_at_least(LEAST_ORDER, alpha - 1) * alpha)
        return sum_of_rows(terms.where(support, weights * slope_at_0), self.dim, offsets)

    def omega_slope(self, weights: Tensor, mask: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        alpha = self.by_entry(self.alpha, weights, offsets)
        logarithms, _ = _logarithms(weights)
        order = (alpha - 1) * logarithms
        by_order = logarithms.square() * exponential_moment(1, order) / alpha
        by_factor = -logarithms * exponential_moment(0, order) / alpha**2
        return sum_of_rows(weights * (by_order + by_factor), self.dim, offsets)


def _at_least(bound: float, value: float | Tensor) -> float | Tensor:
    return value.clamp(min=bound) if isinstance(value, Tensor) else max(value, bound)
