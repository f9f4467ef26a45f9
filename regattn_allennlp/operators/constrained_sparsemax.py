import math
from typing import Any

import torch
from torch import Tensor

from regattn_allennlp.operators.block_operators import solve_constrained_sparsemax
from regattn_allennlp.operators.functions import is_plain, overridable
from regattn_allennlp.operators.regularized_max import RegularizedMax
from regattn_allennlp.operators.rows import (
    COMPUTE_DTYPES,
    check_dim,
    check_gamma,
    check_parameter,
    check_scores,
    expand_to,
    included_positions,
    require_dense,
    scaled,
    solve_rows,
    to_rows,
)

# As near, relative to the budget, a sum of bounds is the budget itself: in float32 ten times 0.1 is not 1.
TOLERANCES = {torch.float32: 2e-6, torch.float64: 1e-12}


def check_upper(upper: float | Tensor) -> float | Tensor:
    return check_parameter("upper", upper, lambda value: value > 0, "above 0")


def check_budget(budget: float | Tensor) -> float | Tensor:
    return check_parameter("budget", budget, lambda value: value > 0, "above 0")


@overridable
def constrained_sparsemax(
    scores: Tensor,
    mask: Tensor | None = None,
    dim: int = -1,
    gamma: float | Tensor = 1.0,
    upper: float | Tensor = 1.0,
    budget: float | Tensor = 1.0,
) -> Tensor:
    """
    Sparse weights none of which is above its bound: the solution of

        argmax_p <p, x> - gamma * 1/2 ||p||^2    where 0 <= p <= upper and sum_i p_i = budget.

    With `upper` 0.3 no word gets more than 0.3 of the attention. With a bound for each word, what is left of its
    fertility, this is the constrained sparsemax of Malaviya, Ferreira & Martins 2018 (arXiv 1805.08241; constrained
    softmax is of Martins & Kreutzer 2017). With `upper` 1 and `budget` k it chooses k of the positions, wholly where
    their scores are far apart (the "budget" of Niculae, Martins, Blondel & Cardie 2018, arXiv 1802.04223). With both 1
    it is `sparsemax`.

    Where all that is in a row cannot hold the budget, the weights are `upper` everywhere: all that the row can hold.
    Three words hold 0.9 of a budget of 1 if each may have 0.3; so short rows beside long ones need no bounds of their
    own.

    The solution is exact: between two of the points where a weight leaves 0 or reaches its bound the sum of the
    weights is linear in the threshold, and the points next to the solution are found.

    Parameters and errors are those of `RegularizedMax` and its `forward`: `scores` of any floating-point dtype and
    any number of dimensions; `mask` of dtype bool, broadcastable to `scores`, false where the weight is 0; `dim` the
    dimension along which the weights sum to the budget; `gamma` > 0, the regularization. `upper` is a number above 0,
    or a tensor that broadcasts to `scores`, a bound for each position: 0 and above, where infinity is no bound.
    `budget` is a number above 0, or a tensor that broadcasts to `scores` with size 1 at `dim`. Tensors may require
    gradients. A row with a bound below 0 or NaN at a position that is in the problem, or with a budget that is not a
    finite number above 0, is NaN.

    Returns the weights in the shape and dtype of `scores`. Where one of them just reaches its bound or 0, so that
    there are several derivatives, they are those of a bound that is reached and of a budget that falls.
    """
    gamma = check_gamma(gamma)
    upper = check_upper(upper)
    budget = check_budget(budget)
    dim, _ = check_dim(dim), check_scores(scores, mask)
    has_tensor = isinstance(gamma, Tensor) or isinstance(upper, Tensor) or isinstance(budget, Tensor)
    if not has_tensor and scores.device.type == "cpu" and is_plain(scores):
        numbers: Any = upper, budget, TOLERANCES[COMPUTE_DTYPES[scores.dtype]]
        return solve_constrained_sparsemax(scores, mask, dim, gamma, numbers)  # type: ignore[arg-type]
    if isinstance(upper, Tensor):
        upper = to_rows(expand_to(scores.shape, "upper", upper).to(COMPUTE_DTYPES[scores.dtype]), dim)

    def solve(rows, gamma, budget):  # torch.compile of older PyTorch stops at annotations
        return _weights(scaled(rows, gamma), upper, budget)

    return solve_rows(solve, scores, mask, dim, gamma=gamma, budget=budget)


def _weights(values: Tensor, upper: float | Tensor, budget: float | Tensor) -> Tensor:
    """
    The weights for gamma = 1, from `values` of shape (num_rows, row_length) as `scaled` gives them: v - t for those
    between their bounds, t such that all sum to the budget. Which are, is found without a gradient; the rest is plain
    operations.
    """
    if values.numel() == 0:
        return values.clone()
    included = values != -math.inf
    if isinstance(upper, Tensor):
        upper = upper.where(included, 0.0)
        values = values * _one_or_nan((upper >= 0).all(-1, keepdim=True), values)
    else:
        upper = values.new_full((), min(upper, torch.finfo(values.dtype).max)).where(included, 0.0)
    if isinstance(budget, Tensor):
        values = values * _one_or_nan((budget > 0) & (budget < math.inf), values)
    else:
        budget = values.new_full((values.size(0), 1), min(budget, torch.finfo(values.dtype).max))

    full, free, is_corner = _active_sets(values.detach(), upper.detach(), budget.detach(), included)
    # NaN is for the whole row.
    is_nan = values.isnan().any(-1, keepdim=True)
    full, free, is_corner = full & ~is_nan, (free & ~is_nan) | (included & is_nan), is_corner & ~is_nan

    num_free = free.sum(-1, keepdim=True).clamp(min=1).to(values.dtype)
    rest = (budget - upper.where(full, 0.0).sum(-1, keepdim=True)) / num_free
    # About one of the free values the others are small, and lose no digits in their mean.
    largest = values.detach().masked_fill(~free, -math.inf).amax(-1, keepdim=True)
    distances = (values.where(free, 0.0) - largest.where(free, 0.0)).where(free, 0.0)
    # In a corner the weights do not change with the scores.
    distances = distances.where(~is_corner, distances.detach())
    weights = distances - distances.sum(-1, keepdim=True) / num_free + rest
    weights = weights.where(free, upper.where(full, 0.0))
    # Not beyond its bounds by a rounding error, which must not change the gradient.
    rounded = weights.detach()
    return weights + (rounded.clamp(min=0).minimum(upper.detach()) - rounded)


def _one_or_nan(is_valid: Tensor, values: Tensor) -> Tensor:
    return values.new_ones(()).where(is_valid, math.nan)


def _active_sets(values: Tensor, upper: Tensor, budget: Tensor, included: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """
    Where the weights are their bounds and where they are free, both in the shape of `values`; and in which rows, shape
    (num_rows, 1), they are in a corner: all are 0 or their bounds, which sum to the budget. There the weights do not
    change with the scores, and those called free are the last ones that reach their bounds: they give way to a change
    of budget and bounds.

    With threshold t the weights are min(max(v - t, 0), upper). As t falls, one is free from v to v - upper. So from
    point to point of these 2n the sum grows by the number of those free, times the way: all terms are 0 or above.
    """
    tolerance = TOLERANCES[values.dtype]
    if values.device.type != "mps":  # which has no more than float32
        values, upper, budget = values.double(), upper.double(), budget.double()
    values = values.masked_fill(~included, 0.0)  # with bounds of 0 they are free nowhere
    upper = upper.minimum(budget)  # above it a bound is none
    widest, length = upper.amax(-1, keepdim=True), values.size(-1)

    # v - upper would lose the bound's digits where v is low. What is above a gap as wide as any bound is full before
    # what is below it begins. So the points are taken about the top of that part in which the budget is reached.
    decreasing, order = values.sort(dim=-1, descending=True)
    bounds = upper.gather(-1, order)
    is_after_gap = decreasing.roll(1, -1) - decreasing >= widest
    is_begun = bounds.cumsum(-1) - bounds < budget * (1 - tolerance / 2)
    top = (is_after_gap & is_begun) * torch.arange(length, device=values.device)
    starts = values - decreasing.gather(-1, top.amax(-1, keepdim=True))
    starts = starts.minimum(widest).maximum(-(length + 1) * widest)
    ends = starts - upper

    points, order = torch.cat([starts, ends], -1).sort(dim=-1, descending=True)
    change = torch.where(order < length, 1, -1)
    num_free_before = change.cumsum(-1) - change
    totals = (num_free_before * (points.roll(1, -1) - points).clamp(min=0)).cumsum(-1)
    num_below = (totals < budget * (1 - tolerance)).sum(-1, keepdim=True)
    is_reached = num_below < 2 * length
    index = num_below.clamp(min=1, max=2 * length - 1)
    low, previous = points.gather(-1, index), points.gather(-1, index - 1)
    high = low.where(totals.gather(-1, index) <= budget * (1 + tolerance), previous)

    full = included & ((ends >= high) | ~is_reached)
    free = included & (starts > low) & (ends < high) & is_reached
    is_corner = is_reached & ~free.any(-1, keepdim=True)
    last = full & (starts > low) & (ends == low) & is_corner
    return full & ~last, free | last, is_corner


@RegularizedMax.register("constrained_sparsemax")
class ConstrainedSparsemax(RegularizedMax):
    """
    `constrained_sparsemax` as a module: Omega(p) = 1/2 ||p||^2, where 0 <= p <= upper and sum_i p_i = budget.

    # Parameters

    gamma, dim, learn_gamma
        See `RegularizedMax`.
    upper : float or Tensor, optional (default = 1.0)
        What no weight is above: a number above 0; or a tensor that broadcasts to the scores, a bound for each
        position, 0 and above. It may require a gradient.
    budget : float or Tensor, optional (default = 1.0)
        What the weights sum to, above 0. A tensor must broadcast to the scores with size 1 at `dim`, one budget for
        each row; it may require a gradient.
    """

    vertex_omega = 0.5

    def __init__(
        self,
        gamma: float | Tensor = 1.0,
        upper: float | Tensor = 1.0,
        budget: float | Tensor = 1.0,
        dim: int = -1,
        learn_gamma: bool = False,
    ) -> None:
        super().__init__(gamma, dim, learn_gamma)
        self.set_regularization("upper", check_upper(upper), learn=False)
        self.set_regularization("budget", check_budget(budget), learn=False)

    @property
    def upper(self) -> float | Tensor:
        return self.get_regularization("upper")

    @upper.setter
    def upper(self, upper: float | Tensor) -> None:
        self.replace_regularization("upper", check_upper(upper))

    @property
    def budget(self) -> float | Tensor:
        return self.get_regularization("budget")

    @budget.setter
    def budget(self, budget: float | Tensor) -> None:
        self.replace_regularization("budget", check_budget(budget))

    def extra_repr(self) -> str:
        return f"upper={self._describe('upper')}, budget={self._describe('budget')}, {super().extra_repr()}"

    def forward(self, scores: Tensor, mask: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        require_dense("constrained_sparsemax", offsets)
        return constrained_sparsemax(scores, mask, self.dim, self.gamma, self.upper, self.budget)

    def omega(self, weights: Tensor, mask: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        require_dense("constrained_sparsemax", offsets)
        return weights.square().sum(self.dim) / 2

    @overridable
    def value(self, scores: Tensor, mask: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        require_dense("constrained_sparsemax", offsets)
        if not isinstance(self.upper, Tensor) and not isinstance(self.budget, Tensor):
            return super().value(scores, mask)
        # Unlike gamma, upper and budget move the weights only, and the value by them. (So its gradient by the scores
        # is the weights but for rounding.) Where weights are free, x - gamma * p is the same number, the slope of the
        # value by the budget. Taken off the scores it leaves little to round.
        included = included_positions(scores, mask)
        computed_scores = scores.to(self.compute_dtype(scores))
        weights, gamma = self(computed_scores, mask), self.by_row(self.gamma, scores)
        present = computed_scores.masked_fill(~included, 0.0)
        if scores.size(self.dim) == 0:
            return weights.sum(self.dim).to(scores.dtype)
        slopes = (present - self._along_dim(gamma) * weights).detach()
        is_full = weights.detach() >= self._upper_of(scores)
        slope = slopes.masked_fill(is_full | ~included, -math.inf).amax(self.dim)
        slope = slope.masked_fill(slope == -math.inf, 0.0)
        of_scores = (weights * (present - slope.unsqueeze(self.dim)).where(included, 0.0)).sum(self.dim)
        value = of_scores + slope * self.total(scores, mask) - gamma * self.omega(weights)
        return value.to(scores.dtype)

    def total(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        """What the weights of `scores` sum to, along `dim`: the budget, or all that the bounds can hold."""
        included = included_positions(scores, mask)
        held = self._upper_of(scores).where(included, 0.0).sum(self.dim)
        budget = self.by_row(self.budget, scores)
        if not isinstance(budget, Tensor):
            budget = held.new_full(held.shape, budget)
        return budget.where(budget < held, held)

    def reaches_vertices(self) -> bool:
        has_tensor = isinstance(self.upper, Tensor) or isinstance(self.budget, Tensor)
        return not has_tensor and bool(self.upper >= 1 and self.budget == 1)

    def attains(self, weights: Tensor, mask: Tensor | None, tolerance: float) -> Tensor:
        total = self.total(weights, mask)
        within = (weights <= self._upper_of(weights) * (1 + tolerance)).all(self.dim)
        return within & ((weights.sum(self.dim) - total).abs() <= tolerance * total.clamp(min=1))

    def _upper_of(self, scores: Tensor) -> Tensor:
        """The bounds in the shape of `scores`."""
        if isinstance(self.upper, Tensor):
            return expand_to(scores.shape, "upper", self.upper).to(self.compute_dtype(scores))
        return scores.new_full(scores.shape, self.upper, dtype=self.compute_dtype(scores))

    def _along_dim(self, parameter: float | Tensor) -> float | Tensor:
        return parameter.unsqueeze(self.dim) if isinstance(parameter, Tensor) else parameter
