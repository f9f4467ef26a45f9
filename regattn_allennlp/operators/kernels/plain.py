"""
The row solvers in PyTorch's own operators. `torch.onnx.export` puts them in place of the library's operators, as they
consist of what ONNX has too: sorts, running sums and scatters along rows, and loops that a graph keeps as loops,
for as many rounds as the numbers ask for. No size is known in advance.

The weights of fusedmax and oscarmax come from the z that minimizes 1/2 ||z - v||^2 + a penalty, which is constant on
segments of the row, for oscarmax of the sorted row. At first the whole row is one segment. In each round every segment
is cut at its own mean: what z has above is parted from what it has below, and to tell these apart needs no z. A
segment that is not cut is a block of z, and its mean is z there.

Why so: formulas of minima and maxima over all pairs of positions need no loop, but memory for all pairs. Methods that
go through a row position by position need as many rounds as positions. Here most segments are cut somewhere in the
middle: rows of up to 700 took at most 7 rounds for fusedmax and 13 for oscarmax. Every round but the last cuts where
no cut was, so there are no more rounds than positions, whatever rounding does.

Computed in float64 for float64, and in float32 for anything narrower. All tensors are of shape (num_rows, row_length),
or (num_rows, 1) for what belongs to a whole row.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from regattn_allennlp.operators.rows import COMPUTE_DTYPES, scaled

# torch.while_loop would have the loop compiled first. This takes functions that use nothing but their arguments: the
# numbers that go round, of which it returns the last, and others.
while_loop = torch.ops.higher_order.while_loop

# What is larger is taken for this, which draws together all that is to be told apart. Nothing overflows so.
GREATEST_LAM = 1e30


def sparsemax_rows(scores: Tensor, mask: Tensor | None, gamma: float) -> Tensor:
    values, included, failed = _problem(scores, mask, gamma)
    return _answer(scores, _projection(values), included, failed)


def fusedmax_rows(
    scores: Tensor, mask: Tensor | None, gamma: float, lam: float, lams: Tensor | None
) -> tuple[Tensor, Tensor]:
    values, included, failed = _problem(scores, mask, gamma)
    row_lam, failed = _lam_of_rows(lam, lams, values, failed)
    # A value below this bound has weight 0 wherever it is: numbers stay in a moderate range.
    values = values.clamp(min=-2 - 4 * row_lam)
    starts = (_positions(values) == 0) | (row_lam == 0)  # with lam = 0 every position is a block

    # A position that is not in the problem has no share in the sum of squares. Then it takes the value of one of its
    # neighbours at no cost, and these are as good as neighbours of each other.
    share = included.to(values.dtype)
    values = values.where(included & ~failed, 0)
    starts, values = _cut_while_possible(_fusedmax_cuts, starts, values, share, row_lam)
    segments = starts.cumsum(-1)
    levels, _ = _about_the_means(values, share, segments)
    weights = _answer(scores, _projection(levels.where(included, -math.inf)), included, failed)
    return weights, _blocks(weights, segments)


def oscarmax_rows(
    scores: Tensor, mask: Tensor | None, gamma: float, lam: float, lams: Tensor | None
) -> tuple[Tensor, Tensor]:
    values, included, failed = _problem(scores, mask, gamma)
    row_lam, failed = _lam_of_rows(lam, lams, values, failed)
    count = included.sum(-1, keepdim=True)
    # A value below this bound has weight 0 whatever else is in the row: numbers stay in a moderate range.
    values = values.clamp(min=-2 - row_lam * count).masked_fill(failed, 0.0).where(included, -math.inf)
    values, order = values.sort(dim=-1, descending=True)

    # The non-increasing isotonic regression of v - lam * (n - rank), plus a constant that changes no weight.
    positions = _positions(values)
    ranked = positions < count
    share = ranked.to(values.dtype)
    values = (values + row_lam * positions).where(ranked, 0)
    starts = (positions == 0) | (row_lam == 0)
    starts, values = _cut_while_possible(_oscarmax_cuts, starts, values, share, row_lam)
    segments = starts.cumsum(-1)
    levels, _ = _about_the_means(values, share, segments)
    weights = _projection(levels.where(ranked, -math.inf))
    weights = _answer(scores, torch.zeros_like(weights).scatter(-1, order, weights), included, failed)
    return weights, _blocks(weights, torch.zeros_like(segments).scatter(-1, order, segments))


def _problem(scores: Tensor, mask: Tensor | None, gamma: float) -> tuple[Tensor, Tensor, Tensor]:
    """(x - max x) / gamma; which positions are in the problem; and which rows have no solution."""
    problem = scores.to(COMPUTE_DTYPES[scores.dtype])
    if mask is not None:
        problem = problem.where(mask, -math.inf)
    values = scaled(problem, gamma)
    return values, problem != -math.inf, values.isnan().any(-1, keepdim=True)


def _lam_of_rows(lam: float, lams: Tensor | None, values: Tensor, failed: Tensor) -> tuple[Tensor, Tensor]:
    """One lam for each row, and which rows have no solution, be it because of their lam."""
    row_lam = values.new_full((1, 1), lam) if lams is None else lams.reshape(-1, 1).to(values.dtype)
    usable = (row_lam >= 0) & (row_lam < math.inf)
    return row_lam.where(usable, 0).clamp(max=GREATEST_LAM), failed | ~usable


def _positions(values: Tensor) -> Tensor:
    return torch.arange(values.size(-1), device=values.device).unsqueeze(0)


def _projection(values: Tensor) -> Tensor:
    """The projection on the simplex of every row, in which -inf has weight 0; anything for rows of nothing else."""
    # The threshold is at least the largest value less 1.
    values = (values - values.amax(-1, keepdim=True)).clamp(min=-2)
    decreasing = values.sort(dim=-1, descending=True).values
    sizes = _positions(values) + 1
    size = (1 + sizes * decreasing > decreasing.cumsum(-1)).sum(-1, keepdim=True)
    # The running sums were exact enough to tell the support; this sum has no other values in it.
    threshold = (decreasing.where(sizes <= size, 0).sum(-1, keepdim=True) - 1) / size
    return (values - threshold).clamp(min=0)


def _answer(scores: Tensor, weights: Tensor, included: Tensor, failed: Tensor) -> Tensor:
    return weights.masked_fill(failed, math.nan).where(included, 0).to(scores.dtype)


def _blocks(weights: Tensor, numbers: Tensor) -> Tensor:
    return numbers.masked_fill(weights == 0, 0).masked_fill(weights.isnan(), -1).to(torch.int32)


def _cut_while_possible(
    cuts: Callable, starts: Tensor, values: Tensor, share: Tensor, row_lam: Tensor
) -> tuple[Tensor, Tensor]:
    """
    Cut segments, which begin where `starts` is true, until `cuts` finds nothing to cut. `cuts` returns after which
    positions it cuts, and the values as the cuts change them.
    """

    def is_cut(starts: Tensor, values: Tensor, improving: Tensor, share: Tensor, row_lam: Tensor) -> Tensor:
        return improving.clone()

    def cut(starts: Tensor, values: Tensor, improving: Tensor, share: Tensor, row_lam: Tensor) -> tuple:
        # The first position is a start, so that the last one is an end.
        is_cut_after, values = cuts(starts, _of_the_next(starts), values, share, row_lam)
        return starts | _of_the_previous(is_cut_after), values, is_cut_after.sum() > 0

    improving = torch.ones((), dtype=torch.bool, device=values.device)
    starts = starts.expand_as(values).clone()
    starts, values, _ = while_loop(is_cut, cut, (starts, values, improving), (share, row_lam))
    return starts, values


def _of_the_next(values: Tensor) -> Tensor:
    """At each position what is at the next one, and at the last what is at the first."""
    return torch.cat([values[:, 1:], values[:, :1]], dim=-1)


def _of_the_previous(values: Tensor) -> Tensor:
    return torch.cat([values[:, -1:], values[:, :-1]], dim=-1)


def _sums(values: Tensor, segments: Tensor) -> Tensor:
    """The sum of each segment, at all its positions; `segments` are their numbers, from 1 on."""
    return torch.zeros_like(values).scatter_add(-1, segments - 1, values).gather(-1, segments - 1)


def _about_the_means(values: Tensor, share: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of each segment over that of its shares, its mean; and what is left of the values less shares of it."""
    sizes = _sums(share, segments).clamp(min=1)
    means = _sums(values, segments) / sizes
    deviations = values - means * share
    # What rounding left over would add up.
    rest = _sums(deviations, segments) / sizes
    return means + rest, deviations - rest * share


def _fusedmax_cuts(
    starts: Tensor, ends: Tensor, values: Tensor, share: Tensor, row_lam: Tensor
) -> tuple[Tensor, Tensor]:
    """
    Which positions have z above the segment's mean m is a minimum cut of a chain: the set S that minimizes

        sum_{i in S} (m - v_i) + lam * (number of neighbours of which S has one).

    Let d_k be the least cost of the positions up to k with k in S, less that without: d_k = m - v_k at the segment's
    start, and clip(d_{k-1}, -lam, lam) + m - v_k after it. Where the clipped one is at a bound, k is in S, or not,
    whatever its right neighbour does: else k does as its right neighbour. The end is in S if its d_k is below 0.
    After a cut the two sides push each other apart by lam.
    """
    means, deviations = _about_the_means(values, share, starts.cumsum(-1))
    differences = _clipped_sums(-deviations, row_lam, starts)
    # Equal scores on a slope reach the bound exactly, where cuts are of no use: that must be more than rounding.
    bound = row_lam + 8 * torch.finfo(values.dtype).eps * (row_lam + means.abs())
    is_decided = ends | (differences.abs() > bound)
    # Each position does as the next one that is decided: all up to there have the same number of decided before.
    num_before = is_decided.cumsum(-1) - is_decided.to(torch.int64)
    is_above = (is_decided & (differences < 0)).to(values.dtype)
    is_above = torch.zeros_like(is_above).scatter_add(-1, num_before, is_above).gather(-1, num_before)
    push = row_lam * (_of_the_next(is_above) - is_above).masked_fill(ends, 0.0)
    return push != 0, values + push - _of_the_previous(push)


def _clipped_sums(terms: Tensor, bound: Tensor, starts: Tensor) -> Tensor:
    """
    d_k = clip(d_{k-1}, -bound, bound) + terms_k, and d_k = terms_k at every start. The functions clip(d + shift, low,
    high) are closed under composition: in each round every position composes its own with that of the position which
    is a distance before it, and the distance doubles. From its start on, a segment's functions are constant.
    """

    def is_within(distance: Tensor, shift: Tensor, low: Tensor, high: Tensor) -> Tensor:
        return distance < shift.size(-1)

    def compose(distance: Tensor, shift: Tensor, low: Tensor, high: Tensor) -> tuple:
        before = torch.arange(shift.size(-1), device=shift.device) - distance
        exists, before = before >= 0, before.clamp(min=0)
        shift_before = shift.index_select(-1, before).where(exists, 0)
        low_before = low.index_select(-1, before).where(exists, -math.inf)
        high_before = high.index_select(-1, before).where(exists, math.inf)
        lowest = (low_before + shift).minimum(high).maximum(low)
        highest = (high_before + shift).minimum(high).maximum(low)
        return distance * 2, shift_before + shift, lowest, highest

    distance = torch.ones((), dtype=torch.int64, device=terms.device)
    low = terms.where(starts, terms - bound)
    high = terms.where(starts, terms + bound)
    return while_loop(is_within, compose, (distance, terms, low, high), ())[2]


def _oscarmax_cuts(
    starts: Tensor, ends: Tensor, values: Tensor, share: Tensor, row_lam: Tensor
) -> tuple[Tensor, Tensor]:
    """
    What a segment's z, which does not increase, has above the mean are its first positions: as many as make the sum
    of the deviations largest. Where several numbers do, it is cut after each.
    """
    segments = starts.cumsum(-1)
    means, deviations = _about_the_means(values, share, segments)
    # All segments' deviations sum to 0, so one running sum serves all.
    sums = deviations.cumsum(-1).masked_fill(ends, 0.0)
    largest = torch.zeros_like(sums).scatter_reduce(-1, segments - 1, sums, "amax").gather(-1, segments - 1)
    # Less than that is rounding.
    least = torch.finfo(values.dtype).eps * means.abs()
    return (sums == largest) & (largest > least) & ~ends, values.clone()
