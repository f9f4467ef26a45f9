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

from regattn_allennlp.operators.decompositions import at_most
from regattn_allennlp.operators.rows import COMPUTE_DTYPES, scaled

# torch.while_loop would have the loop compiled first. This takes functions that use nothing but their arguments: the
# numbers that go round, of which it returns the last, and others.
while_loop = torch.ops.higher_order.while_loop

# What is larger is taken for this, which draws together all that is to be told apart. Nothing overflows so.
GREATEST_LAM = 1e30

# alpha - 1 divides. This stands for 0: all results are the same, for float32 too, and nothing overflows.
LEAST_ORDER = 1e-30


def sparsemax_rows(scores: Tensor, mask: Tensor | None, gamma: float, offsets: None = None) -> Tensor:
    values, included, failed = _problem(scores, mask, gamma, offsets)
    return _answer(scores, _projection(values), included, failed)


def fusedmax_rows(
    scores: Tensor, mask: Tensor | None, gamma: float, lam: float, lams: Tensor | None, offsets: None = None
) -> tuple[Tensor, Tensor]:
    values, included, failed = _problem(scores, mask, gamma, offsets)
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
    scores: Tensor, mask: Tensor | None, gamma: float, lam: float, lams: Tensor | None, offsets: None = None
) -> tuple[Tensor, Tensor]:
    values, included, failed = _problem(scores, mask, gamma, offsets)
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


def entmax_rows(
    scores: Tensor,
    mask: Tensor | None,
    gamma: float,
    alpha: float,
    alphas: Tensor | None,
    may_exceed_2: bool,
    offsets: None = None,
) -> Tensor:
    # Above 2 a small weight moves by many times what its score does, rounding included.
    wide = scores.double() if may_exceed_2 else scores
    values, included, failed = _problem(wide, mask, gamma, offsets)
    if alphas is not None:
        order = (alphas - 1).where((alphas >= 1) & (alphas < math.inf), math.nan).to(values.dtype)
        weights = _entmax_from_the_largest(values, order, 1.0)
        if may_exceed_2:
            weights = weights.where(order <= 1, _entmax_from_the_smallest(values, order))
        failed = failed | order.isnan()
    elif alpha == 1.5:
        weights = _entmax_at_1_5(values)
    else:
        orders = values.new_full((1, 1), alpha - 1)
        weights = (
            _entmax_from_the_smallest(values, orders)
            if alpha > 2
            else (_entmax_from_the_largest(values, orders, alpha - 1))
        )
    return _answer(scores, weights, included, failed)


def squared_p_norm_max_rows(
    scores: Tensor, mask: Tensor | None, gamma: float, exponent: float, offsets: None = None
) -> Tensor:
    values, included, failed = _problem(scores, mask, gamma, offsets)
    return _answer(scores, _squared_p_norm_max(values, exponent), included, failed)


def normmax_rows(scores: Tensor, mask: Tensor | None, gamma: float, exponent: float, offsets: None = None) -> Tensor:
    # Above 2 the weights rise from 0 like a root.
    values, included, failed = _problem(scores.double() if exponent > 2 else scores, mask, gamma, offsets)
    return _answer(scores, _normmax(values, exponent), included, failed)


def _problem(scores: Tensor, mask: Tensor | None, gamma: float, offsets: None) -> tuple[Tensor, Tensor, Tensor]:
    """(x - max x) / gamma; which positions are in the problem; and which rows have no solution."""
    if offsets is not None:
        raise NotImplementedError("packed rows cannot be exported to ONNX: rows of one length can, with a mask")
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


def _entmax_at_1_5(values: Tensor) -> Tensor:
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
    return (halves - threshold).clamp(min=0).square()


def _num_newton_steps(values: Tensor, power: float) -> int:
    """
    As many as bring a convex function h of one variable to 1, from above. Newton's method stays above, and each step
    divides (h - 1) * slope by 4 or more. At first that is at most n^power for n weights, and it is to fall to the
    dtype's precision. Mostly it is there after six steps.
    """
    digits = -math.log2(torch.finfo(values.dtype).eps)
    return math.ceil((power * math.log2(at_most(values.size(-1))) + digits) / 2) + 2


def _entmax_from_the_largest(values: Tensor, order: Tensor, greatest_order: float) -> Tensor:
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
        top, ratios, weights = _entmax_given_the_largest(values, order, largest)
        total = weights.sum(-1, keepdim=True)
        slope = (weights / (top * ratios)).masked_fill(ratios == 0, 0.0).sum(-1, keepdim=True)
        step = -total * torch.expm1(-order * total.log()) / slope  # by which c falls
        largest = largest + torch.log1p(-(step / top).clamp(max=0.999)) / order
    _, _, weights = _entmax_given_the_largest(values, order, largest)

    # What rounding left over is shared as a last step would share it.
    shares = torch.softmax(((1 - order) * weights.log()).masked_fill(weights == 0, -math.inf), dim=-1)
    return (weights + (1 - weights.sum(-1, keepdim=True)) * shares).clamp(min=0)


def _entmax_given_the_largest(values: Tensor, order: Tensor, largest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """From the logarithm of the largest weight: c, max(c + a * v, 0) / c, and the weights."""
    top = (order * largest).exp().clamp(min=torch.finfo(values.dtype).tiny)
    falls = (order * values / top).clamp(min=-1)
    return top, 1 + falls, (largest + torch.log1p(falls) / order).exp()


def _entmax_from_the_smallest(values: Tensor, order: Tensor) -> Tensor:
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


def _squared_p_norm_max(values: Tensor, exponent: float) -> Tensor:
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


def _powers_given_the_largest(values: Tensor, dual: float, largest: Tensor) -> tuple[Tensor, Tensor]:
    """From the logarithm of the largest of a: a over the largest, and that to the power of dual - 1."""
    falls = (values * (-largest).exp()).clamp(min=-1)
    return 1 + falls, (torch.log1p(falls) * (dual - 1)).exp()


def _normmax(values: Tensor, exponent: float) -> Tensor:
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
        ratios, powers = _normmax_powers_given_the_largest(values, exponent, largest)
        total = powers.sum(-1, keepdim=True)
        of_duals = (powers * ratios).sum(-1, keepdim=True)  # (||a||_d / m)^d
        slope = total * of_duals ** (-1 / exponent)
        largest = largest - (largest * of_duals**inverse_dual - 1) / slope
    _, powers = _normmax_powers_given_the_largest(values, exponent, largest)
    total = powers.masked_fill(excluded, 0.0).sum(-1, keepdim=True)
    return (powers / total.where(total != 0, 1)).masked_fill(excluded, 0.0)


def _normmax_powers_given_the_largest(values: Tensor, exponent: float, largest: Tensor) -> tuple[Tensor, Tensor]:
    """From the largest of a: a over the largest, and that to the power of d - 1 = 1 / (q - 1)."""
    falls = (values / largest).clamp(min=-1)
    return 1 + falls, (torch.log1p(falls) / (exponent - 1)).exp()
