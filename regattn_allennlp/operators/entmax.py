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
from regattn_allennlp.operators.rows import (
    check_gamma,
    check_number,
    check_parameter,
    check_scores,
    scaled,
    solve_rows,
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
def entmax(
    scores: Tensor,
    mask: Tensor | None = None,
    dim: int = -1,
    gamma: float | Tensor = 1.0,
    alpha: float | Tensor = 1.5,
) -> Tensor:
    """
    Weights between those of softmax and sparsemax, and beyond (Peters, Niculae & Martins 2019, arXiv 1905.05702,
    section 3): the solution of

        argmax_{p in simplex} <p, x> - gamma * sum_i (p_i^alpha - p_i) / (alpha * (alpha - 1)),

    the regularizer being the negative Tsallis entropy. At alpha = 1, in the limit, this is `softmax`, and at alpha = 2
    `sparsemax`; from alpha just above 1 on, scores far enough below the largest get weight exactly 0: those
    gamma / (alpha - 1) or more below it always.

    At 1.5 the solution is computed in closed form, from sorted scores (section 4 of the paper); elsewhere by Newton's
    method to the precision of the dtype, in a number of steps that is enough for every row. If alpha is above 2, or a
    tensor and so not looked into, that is done in float64; `Entmax` knows the bound of an alpha that it learns.

    Parameters and errors are those of `RegularizedMax` and its `forward`: `scores` of any floating-point dtype and
    any number of dimensions; `mask` of dtype bool, broadcastable to `scores`, false where the weight is 0; `dim` the
    dimension along which the weights sum to 1; `gamma` > 0, the regularization; `alpha` >= 1. Both may be tensors that
    broadcast to `scores` with size 1 at `dim`, one for each row or head, and may require gradients (that by alpha is
    that of Correia, Niculae & Martins 2019, arXiv 1909.00015, section 3.2). Where such an alpha is not a finite
    number, 1 or above, the row's weights are NaN.

    Returns the weights in the shape and dtype of `scores`.
    """
    gamma = check_gamma(gamma)
    alpha = check_alpha(alpha)
    return solve_entmax(scores, mask, dim, gamma, alpha, _may_exceed_2(alpha))


def _may_exceed_2(alpha: float | Tensor) -> bool:
    return isinstance(alpha, Tensor) or alpha > 2


@overridable
def solve_entmax(
    scores: Tensor, mask: Tensor | None, dim: int, gamma: float | Tensor, alpha: float | Tensor, may_exceed_2: bool
) -> Tensor:
    """`entmax`, for which less has to be done if an alpha, in a tensor too, is known not to exceed 2."""
    if not isinstance(alpha, Tensor):
        if alpha == 1:
            return softmax(scores, mask, dim, gamma)
        if alpha == 2:
            return sparsemax(scores, mask, dim, gamma)

    def solve(rows, gamma, alpha):  # torch.compile of older PyTorch stops at annotations
        values = scaled(rows, gamma)
        if not is_compiling_a_transform():
            function = _Solution if torch.compiler.is_compiling() else _SolutionInForwardMode
            return function.apply(values, alpha, may_exceed_2)
        weights = _Solution.forward(
            values.detach(), alpha.detach() if isinstance(alpha, Tensor) else alpha, may_exceed_2
        )
        return differentiable_solution(
            weights,
            values,
            lambda weights: _slopes(weights, alpha),
            lambda weights, vector: _jacobian_product(weights, alpha, vector),
        )

    # Above 2 a small weight moves by many times what its score does, rounding included. (Some devices have no more.)
    check_scores(scores, mask)
    if may_exceed_2 and scores.device.type != "mps":
        return solve_rows(solve, scores.double(), mask, dim, gamma=gamma, alpha=alpha).to(scores.dtype)
    return solve_rows(solve, scores, mask, dim, gamma=gamma, alpha=alpha)


class _Solution(torch.autograd.Function):
    """
    The weights for gamma = 1, from `values` of shape (num_rows, row_length) as `scaled` gives them, and alpha, a
    number or of shape (num_rows, 1). All derivatives are functions of the weights, so they have derivatives too.
    """

    @staticmethod
    def forward(values: Tensor, alpha: float | Tensor, may_exceed_2: bool) -> Tensor:
        if values.numel() == 0:
            return values.clone()
        order = alpha - 1
        if isinstance(alpha, Tensor):
            order = (alpha - 1).where((alpha >= 1) & (alpha < math.inf), math.nan)
        elif alpha == 1.5:
            return _weights_at_1_5(values)
        if not torch.compiler.is_compiling():
            return _weights(values, order, may_exceed_2)
        return _compiled_weights(
            values, *((None, order) if isinstance(order, Tensor) else (order, None)), may_exceed_2
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        _, alpha, _ = inputs
        ctx.alpha = None if isinstance(alpha, Tensor) else alpha
        saved = (output, alpha if ctx.alpha is None else None)
        ctx.save_for_backward(*saved)
        ctx.save_for_forward(*saved)

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple:  # type: ignore[override]
        weights, alphas = ctx.saved_tensors
        alpha = ctx.alpha if alphas is None else alphas
        gradient = _jacobian_product(weights, alpha, upstream)
        if not ctx.needs_input_grad[1]:
            return gradient, None, None
        return gradient, -(gradient * _slope_by_alpha(weights, alpha)).sum(-1, keepdim=True), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple, *arguments: Any) -> tuple:
        return apply_to_all_rows(_SolutionInForwardMode.apply, info, in_dims, arguments)


class _SolutionInForwardMode(_Solution):
    """`_Solution` with forward-mode differentiation, whose presence keeps torch.compile from tracing a Function."""

    @nestable
    def jvp(ctx: Any, saved: list, values: Tensor | None, alpha: Tensor | None, _: None) -> Tensor:
        weights, alphas = saved
        change = torch.zeros_like(weights) if values is None else values
        if alpha is not None:
            change = change - alpha * _slope_by_alpha(weights, alphas)
        return _jacobian_product(weights, ctx.alpha if alphas is None else alphas, change)


def _weights_at_1_5(values: Tensor) -> Tensor:
    """
    p_i = max(v_i / 2 - t, 0)^2. If the largest k are the support, with mean m and squared distances from it that sum
    to d, then t = m - sqrt((1 - d) / k); and it is the support if t is below these k and not below the others.
    """
    # The largest value is 0, so t >= -1: nothing changes for values below. And sums lose no digits to them.
    halves = (values / 2).clamp(min=-1)
    decreasing = halves.sort(dim=-1, descending=True).values
    sizes = torch.arange(1, values.size(-1) + 1, device=values.device, dtype=values.dtype)
    means = decreasing.cumsum(-1) / sizes
    distances = decreasing.square().cumsum(-1) - sizes * means.square()
    thresholds = means - ((1 - distances).clamp(min=0) / sizes).sqrt()
    size = (decreasing > thresholds).sum(-1, keepdim=True)

    # The running sums were exact enough to tell the support; for t the sums are taken anew, about the mean.
    support = sizes <= size
    mean = decreasing.where(support, 0).sum(-1, keepdim=True) / size
    distance = (decreasing - mean).where(support, 0).square().sum(-1, keepdim=True)
    threshold = mean - ((1 - distance).clamp(min=0) / size).sqrt()
    return _finished((halves - threshold).clamp(min=0).square(), values)


def _weights(values: Tensor, order: float | Tensor, may_exceed_1: bool) -> Tensor:
    """The weights for a = `order` = alpha - 1, which may exceed 1 if that is said."""
    if not isinstance(order, Tensor):
        orders = values.new_full((1, 1), order)
        if order > 1:
            weights = _weights_from_the_smallest(values, orders)
        else:
            weights = _weights_from_the_largest(values, orders, order)
    else:
        weights = _weights_from_the_largest(values, order, 1.0)
        if may_exceed_1:
            weights = weights.where(order <= 1, _weights_from_the_smallest(values, order))
        weights = weights.masked_fill(order.isnan(), math.nan)
    return _finished(weights, values)


def _finished(weights: Tensor, values: Tensor) -> Tensor:
    # NaN is for the whole row. Maxima and sorts bring it there in PyTorch, but not in ONNX.
    return weights.masked_fill(values.isnan().any(-1, keepdim=True), math.nan).masked_fill(values == -math.inf, 0.0)


def _num_newton_steps(values: Tensor, power: float) -> int:
    """
    As many as bring a convex function h of one variable to 1, from above. Newton's method stays above, and each step
    divides (h - 1) * slope by 4 or more. At first that is at most n^power for n weights, and it is to fall to the
    dtype's precision. Mostly it is there after six steps.
    """
    digits = -math.log2(torch.finfo(values.dtype).eps)
    return math.ceil((power * math.log2(at_most(values.size(-1))) + digits) / 2) + 2


def _weights_from_the_largest(values: Tensor, order: Tensor, greatest_order: float) -> Tensor:
    """
    For a <= 1. p_i = max(c + a * v_i, 0)^(1 / a), c such that they sum to 1. With l = log(c) / a, the logarithm of the
    largest weight, log p_i = l + log1p(a * v_i / c) / a, which loses no digits for any a, and at a = 0 is that of
    softmax.

    h(c) = ||p||_1^a, which is to be 1, is the (1 / a)-norm of max(c + a * v, 0). So it is convex, with a slope between
    1 and n^a for n weights. It begins at n^a or below. No `order` is above the `greatest_order`.
    """
    order = order.clamp(min=LEAST_ORDER)
    largest = values.new_zeros(values.size(0), 1)  # its logarithm, at first as large as it can be
    for _ in range(_num_newton_steps(values, 2 * greatest_order)):
        top, ratios, weights = _weights_given_the_largest(values, order, largest)
        total = weights.sum(-1, keepdim=True)
        slope = (weights / (top * ratios)).masked_fill(ratios == 0, 0.0).sum(-1, keepdim=True)
        step = -total * torch.expm1(-order * total.log()) / slope  # by which c falls
        largest = largest + torch.log1p(-(step / top).clamp(max=0.999)) / order
    _, _, weights = _weights_given_the_largest(values, order, largest)

    # What rounding left over is shared as a last step would share it.
    shares = torch.softmax(((1 - order) * weights.log()).masked_fill(weights == 0, -math.inf), dim=-1)
    return (weights + (1 - weights.sum(-1, keepdim=True)) * shares).clamp(min=0)


def _weights_given_the_largest(values: Tensor, order: Tensor, largest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From the logarithm of the largest weight: c, max(c + a * v, 0) / c, and the weights."""
    top = (order * largest).exp().clamp(min=torch.finfo(values.dtype).tiny)
    falls = (order * values / top).clamp(min=-1)
    return top, 1 + falls, (largest + torch.log1p(falls) / order).exp()


def _weights_from_the_smallest(values: Tensor, order: Tensor) -> Tensor:
    """
    For a >= 1. A root makes small weights of tiny differences, so they may not come from larger numbers. With p_k the
    smallest weight above 0 all terms of p_i = (p_k^a + a * (v_i - v_k))^(1 / a) are 0 or above.

    A value v_k is in the support if the larger ones leave something of 1: sum_i (a * max(v_i - v_k, 0))^(1 / a) < 1.
    Lower values leave less, so the smallest is found by halving. Then p_k is where the sum of all weights is 1. That
    is convex, with a slope between 1 and n. For a support of n weights p_k is at most 1 / n, where Newton's method
    begins.
    """
    decreasing = values.sort(dim=-1, descending=True).values
    low = torch.zeros_like(values[:, :1], dtype=torch.int64)
    high = low + values.size(-1) - 1
    for _ in range((at_most(values.size(-1)) - 1).bit_length()):
        middle = (low + high + 1) // 2
        smallest = decreasing.gather(-1, middle)
        rises = (order * (values - smallest)).where(values > smallest, 0)
        is_supported = (rises ** (1 / order)).sum(-1, keepdim=True) < 1
        low, high = middle.where(is_supported, low), high.where(is_supported, middle - 1)
    smallest = decreasing.gather(-1, low)

    is_smallest, is_larger = values == smallest, values > smallest
    num_smallest = is_smallest.sum(-1, keepdim=True)
    rises = (order * (values - smallest)).where(is_larger, 0)
    weight = 1 / (num_smallest + is_larger.sum(-1, keepdim=True)).to(values.dtype)
    for _ in range(_num_newton_steps(values, 1.0)):
        larger = (weight**order + rises) ** (1 / order)
        total = num_smallest * weight + larger.where(is_larger, 0).sum(-1, keepdim=True)
        slope = num_smallest + ((weight / larger) ** (order - 1)).where(is_larger, 0).sum(-1, keepdim=True)
        weight = (weight - (total - 1) / slope).clamp(min=0)
    larger = (weight**order + rises) ** (1 / order)
    return weight.where(is_smallest, larger.where(is_larger, 0))


@torch.library.custom_op("regattn_allennlp::entmax", mutates_args=())
def _compiled_weights(values: Tensor, order: float | None, orders: Tensor | None, may_exceed_1: bool) -> Tensor:
    """
    `_weights` as one operation for torch.compile. Inside, a compiler would unroll the steps, for a minute, and anew
    for each length that they depend on.
    """
    return _weights(values, order if orders is None else orders, may_exceed_1)  # type: ignore[arg-type]


@_compiled_weights.register_fake
def _(values: Tensor, order: float | None, orders: Tensor | None, may_exceed_1: bool) -> Tensor:
    return torch.empty_like(values)


register_decomposition(
    "entmax", lambda values, order, orders, *rest: _weights(values, order if orders is None else orders, *rest)
)


def _jacobian_product(weights: Tensor, alpha: float | Tensor, vector: Tensor) -> Tensor:
    """(diag(s) - s s^T / sum(s)) times the vector, where s = p^(2 - alpha) on the support and 0 elsewhere."""
    if weights.numel() == 0:
        return vector.clone()
    logarithms, support = _logarithms(weights)
    exponents = (2 - alpha) * logarithms
    # Above alpha = 2 small weights could overflow.
    s = exponents.clamp(max=0.9 * math.log(torch.finfo(weights.dtype).max)).exp().where(support, 0)
    # The product is the same for a vector with a constant added. With 0 where s is largest, which may be by 1e20, no
    # digits of the others are lost in the mean.
    pivot = exponents.detach().masked_fill(~support, -math.inf).argmax(-1, keepdim=True)
    vector = (vector - vector.gather(-1, pivot)).where(support, 0)
    total = s.sum(-1, keepdim=True)
    mean = (s * vector).sum(-1, keepdim=True) / total.where(total != 0, 1)
    return s * (vector - mean)


def _slopes(weights: Tensor, alpha: float | Tensor) -> Tensor:
    """Those of Omega, (p_i^a - 1) / a with a = alpha - 1, but for a constant; 0 where p is 0."""
    logarithms, support = _logarithms(weights)
    return (logarithms * exponential_moment(0, (alpha - 1) * logarithms)).where(support, 0)


def _slope_by_alpha(weights: Tensor, alpha: float | Tensor) -> Tensor:
    """
    How `_slopes` change with alpha.
    """
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

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        return solve_entmax(scores, mask, self.dim, self.gamma, self.alpha, self._may_exceed_2())

    def entmax_alpha(self) -> float | None:
        return None if isinstance(self.alpha, Tensor) else self.alpha

    def omega_at(self, positions: Tensor, included: Tensor, dtype: torch.dtype) -> float:
        return 0.0

    def _may_exceed_2(self) -> bool:
        return self.max_alpha > 2 if self.learns("alpha") else _may_exceed_2(self.alpha)

    def compute_dtype(self, tensor: Tensor) -> torch.dtype:
        is_wide = self._may_exceed_2() and tensor.device.type != "mps"
        return torch.float64 if is_wide else super().compute_dtype(tensor)

    def omega(self, weights: Tensor, mask: Tensor | None = None) -> Tensor:
        alpha = self._alpha_of(weights)
        logarithms, support = _logarithms(weights)
        # p * ((p^a - 1) / a) / alpha, a = alpha - 1. At p = 0 the slope is -1 / (a * alpha).
        terms = weights * logarithms * exponential_moment(0, (alpha - 1) * logarithms) / alpha
        slope_at_0 = -1 / (_at_least(LEAST_ORDER, alpha - 1) * alpha)
        return terms.where(support, weights * slope_at_0).sum(self.dim)

    def omega_slope(self, weights: Tensor, mask: Tensor | None = None) -> Tensor:
        alpha = self._alpha_of(weights)
        logarithms, _ = _logarithms(weights)
        order = (alpha - 1) * logarithms
        by_order = logarithms.square() * exponential_moment(1, order) / alpha
        by_factor = -logarithms * exponential_moment(0, order) / alpha**2
        return (weights * (by_order + by_factor)).sum(self.dim)

    def _alpha_of(self, weights: Tensor) -> float | Tensor:
        """alpha in a shape that broadcasts to the weights."""
        alpha = self.by_row(self.alpha, weights)
        return alpha.unsqueeze(self.dim) if isinstance(alpha, Tensor) else self.alpha


def _at_least(bound: float, value: float | Tensor) -> float | Tensor:
    return value.clamp(min=bound) if isinstance(value, Tensor) else max(value, bound)
