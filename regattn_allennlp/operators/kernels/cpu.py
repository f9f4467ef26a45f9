"""
The row solvers on the CPU, compiled by numba. The compiled code is cached on disk, and runs without Python's lock.

All of them take the rows one after another in flat arrays, row r from starts[r] to starts[r + 1]. They work on
v = (x - max x) / gamma in float64, and most only on the candidates: the scores so near the maximum that their weight
may be above 0. Loops select rather than branch: the branches would be mispredicted often.
Places in the flat arrays are unsigned, so that numba need not ask whether they count from the end.
"""

import math
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regattn_allennlp.operators.kernels.numba_cache import njit_with_cache

compiled = njit_with_cache(nogil=True, error_model="numpy")

# Sums in any order, and no care for NaN: then loops are vectorized. What they give for rows with NaN is not used.
vectorized = njit_with_cache(nogil=True, error_model="numpy", fastmath={"reassoc", "nsz", "nnan", "contract"})

DTYPES = {np.dtype(np.float32): torch.float32, np.dtype(np.float64): torch.float64}

# Each thread gets at least this many scores. Fewer are solved sooner by one thread: others have to be started, and to
# wait where PyTorch's own, with nothing left to do, still keep the other cores busy.
SCORES_PER_THREAD = 2**20


# Those that take steps to find the weights have more to do.
SCORES_PER_THREAD_BY_STEPS = 2**15

# How far from 1 a sum of weights, or what is to be 1 if it is so, may be: what their dtype cannot tell from that.
TOLERANCES = {np.dtype(np.float32): 1e-7, np.dtype(np.float64): 1e-14}

LOG_2 = math.log(2.0)
# Those of exp(x), from the highest power to the lowest, enough for |x| <= log(2) / 2 in float64.
EXPONENTIAL_COEFFICIENTS = tuple(1.0 / math.factorial(power) for power in reversed(range(14)))
# log(m) is f times a series in f^2, f = (m - 1) / (m + 1): enough for sqrt(1/2) <= m <= sqrt(2).
LOGARITHM_COEFFICIENTS = tuple(2.0 / power for power in range(23, 0, -2))
# (x * exp(x) - exp(x) + 1) / x^2, from the highest power to the lowest, enough for |x| <= 1/2.
MOMENT_COEFFICIENTS = tuple(1.0 / (math.factorial(power) * (power + 2)) for power in reversed(range(15)))
SQRT_HALF_BITS = np.float64(math.sqrt(0.5)).view(np.int64)
LOWEST_EXPONENT = -708.0  # below, the exponential is no normal number: 0

# Nothing that is in a problem is lower.
LOWEST_VALUE = -1e300

# Sums of many terms lose fewer digits where they are sums of sums of so many.
TERMS_IN_A_ROW = 128

# Below that an order, alpha - 1, makes powers so large that they lose digits: logarithms and exponentials do not.
LEAST_ORDER_OF_POWERS = 0.05

# What is a product with it is finite.
LARGEST_SHARE = 1e300

# The rounding of a number in float64.
EPSILON = 2.0**-52

# Numbers above this are as good as it, and products with them infinite.
LARGEST_LAM = 1e290


@compiled
def _longest(first_row, end_row, starts):
    longest = np.int64(0)
    for row in range(first_row, end_row):
        longest = max(longest, np.int64(starts[row + 1] - starts[row]))
    return longest


@compiled
def _load(scores, mask, start, length, problem):
    """
    Copy the row's scores to `problem`, -inf where they are not in it. Returns their maximum, and whether the row has a
    solution: it has none with NaN or +inf in it.
    """
    num_unusable = 0
    for position in range(length):
        score = np.float64(scores[start + position])
        if mask is not None and not mask[start + position]:
            score = np.float64(-np.inf)
        problem[position] = score
        num_unusable += 0 if score < np.inf else 1
    return _maximum(problem, length), num_unusable == 0


@vectorized
def _maximum(problem, length):
    maximum = -np.inf
    for position in range(length):
        score = problem[position]
        maximum = score if score > maximum else maximum
    return maximum


@compiled
def _fail(problem, start, length, weights, blocks):
    """The answer for a row that has no solution: NaN at every position that is in the problem."""
    for position in range(length):
        is_included = problem[position] != -np.inf
        weights[start + position] = np.nan if is_included else 0.0
        if blocks is not None:
            blocks[start + position] = -1 if is_included else 0


@compiled
def _gather(problem, start, length, maximum, gamma, bound, values, positions, ranks, weights):
    """
    Copy the values (x - max x) / gamma that are above `bound` to the front of `values`, where they came from to
    `positions`, and how many of the problem's scores stand before each to `ranks`, if that is not None; fill `weights`
    with 0. Returns how many values there are, and how many scores the problem has.
    """
    limit = maximum + gamma * bound
    limit -= 1e-9 * (abs(maximum) - gamma * bound)  # a few candidates too many do no harm, one too few does
    limit = max(limit, -1.7976931348623157e308)  # not -inf, which is not in the problem
    count = 0
    rank = 0
    for position in range(length):
        score = problem[position]
        values[count] = score - maximum
        positions[count] = position
        weights[start + position] = 0.0
        if ranks is not None:
            ranks[count] = rank
            rank += score > -np.inf
        count += score >= limit
    for k in range(count):
        value = values[k] / gamma
        values[k] = value if value > bound - 1.0 else bound - 1.0
    return count, rank


@compiled
def _simplex_threshold(values, count):
    """
    The t with sum(max(z - t, 0)) = 1, which projects z = `values[:count]`, of which the largest is 0, on the simplex.
    Michelot's method (1986): t from all values, drop those at or below t, until none is dropped.
    """
    threshold = -1.0  # one value alone would get all the weight
    num_active = count + 1.0
    while True:
        total, num_above = _sum_above(values, count, threshold)
        # Fewer every time, but for rounding: that may let a dropped value in again, and must not go on forever.
        if num_above >= num_active:
            return threshold
        num_active = num_above
        threshold = (total - 1.0) / num_active


@vectorized
def _sum_above(values, count, threshold):
    total = 0.0
    num_above = 0.0
    for k in range(count):
        is_above = values[k] > threshold
        total += values[k] if is_above else 0.0
        num_above += 1.0 if is_above else 0.0
    return total, num_above


@compiled
def sparsemax_numpy(first_row, end_row, starts, scores, mask, gamma, weights):
    problem = np.empty(_longest(first_row, end_row, starts), np.float64)
    for row in range(first_row, end_row):
        start, length = starts[row], starts[row + 1] - starts[row]
        maximum, has_solution = _load(scores, mask, start, length, problem)
        if not has_solution:
            _fail(problem, start, length, weights, None)
            continue
        if maximum == -np.inf:
            weights[start : start + length] = 0.0
            continue
        for position in range(length):
            value = (problem[position] - maximum) / gamma
            problem[position] = value if value > -2.0 else -2.0  # the weight of a value down there is 0
        threshold = _simplex_threshold(problem, length)
        for position in range(length):
            value = problem[position] - threshold
            weights[start + position] = value if value > 0.0 else 0.0


@compiled
def constrained_sparsemax_numpy(
    first_row, end_row, starts, scores, mask, gamma, upper, budget, tolerance, weights, blocks
):
    """
    With threshold t the weights are min(max(v - t, 0), upper). As t falls, one leaves 0 at v, and reaches its bound at
    v - upper. Between two of these points the sum of all is linear. A sum as near to the budget as the `tolerance`,
    relatively, is the budget: where that is so at a point, all weights are in a corner, and do not change.
    """
    longest = _longest(first_row, end_row, starts)
    problem = np.empty(longest, np.float64)
    values = np.empty(longest, np.float64)
    upper = min(upper, budget)  # above it a bound is none
    for row in range(first_row, end_row):
        start, length = starts[row], starts[row + 1] - starts[row]
        maximum, has_solution = _load(scores, mask, start, length, problem)
        if not has_solution:
            _fail(problem, start, length, weights, blocks)
            continue
        num_included = 0
        for position in range(length):
            is_included = problem[position] > -np.inf
            problem[position] = max((problem[position] - maximum) / gamma, LOWEST_VALUE)
            values[num_included] = problem[position]
            num_included += is_included
            problem[position] = problem[position] if is_included else np.nan  # which no comparison is true of
        if num_included == 0:
            weights[start : start + length] = 0.0
            blocks[start : start + length] = 0
            continue

        # The threshold is above one with which the sum is larger than the budget. What is below that has no weight.
        bound = -upper
        while bound > LOWEST_VALUE and _sum_between(values, num_included, bound, upper) < budget * 1.01:
            bound *= 2.0
        count = 0
        for k in range(num_included):
            values[count] = values[k]
            count += values[k] > bound or bound <= LOWEST_VALUE
        low, high, top = _threshold_between(values, count, length, upper, budget, tolerance)
        if bound > LOWEST_VALUE:
            low = max(low, bound - top)

        # Of those between their bounds, and of those that are at them just so: how many, and the sum of their values.
        num_full, num_free, num_last, total = 0, 0, 0, 0.0
        for position in range(length):
            value = problem[position] - top
            num_full += value - upper >= high
            is_free = value > low and value - upper < high
            num_free += is_free
            total += value if is_free else 0.0
            num_last += value > low and value - upper == low
        is_corner = num_free == 0
        rest = budget - upper * (num_full - (num_last if is_corner else 0))
        mean = total / num_free
        for position in range(length):
            value = problem[position] - top
            weight = 0.0
            block = np.int64(0)
            if is_corner and value > low and value - upper == low:
                weight = min(rest / num_last, upper)
            elif value - upper >= high:
                weight = upper
            elif value > low:
                weight = min(max(value - mean + rest / num_free, 0.0), upper)
                block = np.int64(position) + 1
            weights[start + position] = weight
            blocks[start + position] = block


@vectorized
def _sum_between(values, count, threshold, upper):
    total = 0.0
    for k in range(count):
        total += min(max(values[k] - threshold, 0.0), upper)
    return total


@compiled
def _threshold_between(values, count, length, upper, budget, tolerance):
    """
    Two neighbouring points with the threshold between them, or one, twice, that is the threshold; and the value that
    they are measured from: v - upper would lose the bound's digits where v is low. What is above a gap as wide as the
    bound is full before what is below it begins, so it is the top of that part in which the budget is reached.
    Changes the order of the values.
    """
    ordered = values[:count]
    ordered.sort()
    top = count - 1
    for k in range(count - 1):
        num_above = count - 1 - k
        if ordered[k + 1] - ordered[k] >= upper and num_above * upper < budget * (1.0 - tolerance / 2.0):
            top = k
            break
    origin = ordered[top] if count > 0 else 0.0
    first, first_end = count - 1, count - 1  # the next to leave 0, and the next to reach its bound
    previous, total = np.inf, 0.0
    while first_end >= 0:
        next_start = -np.inf
        if first >= 0:
            next_start = _relative(ordered[first], origin, length, upper)
        next_end = _relative(ordered[first_end], origin, length, upper) - upper
        point = max(next_start, next_end)
        num_free = first_end - first
        if num_free > 0:
            total += num_free * (previous - point)
        if total >= budget * (1.0 - tolerance):
            return point, point if total <= budget * (1.0 + tolerance) else previous, origin
        previous = point
        if next_start >= next_end:
            first -= 1
        else:
            first_end -= 1
    return -np.inf, -np.inf, origin  # the row cannot hold the budget


@compiled
def _relative(value, origin, length, upper):
    return max(min(value - origin, upper), -(length + 1.0) * upper)


@compiled
def fusedmax_numpy(first_row, end_row, starts, scores, mask, gamma, lams, weights, blocks):
    longest = _longest(first_row, end_row, starts)
    problem = np.empty(longest, np.float64)
    values = np.empty(longest + 1, np.float64)
    positions = np.empty(longest + 1, np.uint64)
    ranks = np.empty(longest + 1, np.int64)
    run_starts = np.empty(longest + 1, np.int64)
    first = np.empty(longest + 1, np.int64)
    lower = np.empty(longest, np.float64)
    upper = np.empty(longest, np.float64)
    knots = np.empty((3, 2 * longest), np.float64)
    for row in range(first_row, end_row):
        start, length = starts[row], starts[row + 1] - starts[row]
        lam = lams[row if lams.size > 1 else 0]
        maximum, has_solution = _load(scores, mask, start, length, problem)
        if not has_solution or not 0.0 <= lam < np.inf:
            _fail(problem, start, length, weights, blocks)
            continue
        blocks[start : start + length] = 0
        lam = min(lam, LARGEST_LAM)
        # A score below this bound has weight 0, and no weight changes if it is lowered to minus infinity: the runs
        # between such scores are problems of their own. The lowered neighbours pull a run's ends down, by lam each.
        bound = -1.0 - 4.0 * lam
        count, num_included = _gather(problem, start, length, maximum, gamma, bound, values, positions, ranks, weights)
        if count == 0:
            continue
        ranks[count] = -1  # follows none
        num_runs = 0
        rank_before = -2
        for k in range(count):
            rank = ranks[k]
            starts_run = rank != rank_before + 1
            ends_run = ranks[k + 1] != rank + 1
            run_starts[num_runs] = k
            num_runs += starts_run
            num_pulls = (starts_run & (rank > 0)) + (ends_run & (rank + 1 < num_included))
            values[k] -= lam * num_pulls
            first[k] = k
            rank_before = rank
        run_starts[num_runs] = count
        if num_runs < count and lam > 0.0:  # at 0 even equal neighbours are not drawn together
            for run in range(num_runs):
                run_start, run_end = run_starts[run], run_starts[run + 1]
                if run_end == run_start + 2:
                    _fuse_two(values, run_start, lam, first)
                elif run_end > run_start + 2:
                    _fuse(values, run_start, run_end, lam, first, lower, upper, knots)
        highest = values[0]
        for k in range(1, count):
            highest = values[k] if values[k] > highest else highest
        for k in range(count):
            values[k] -= highest
        threshold = _simplex_threshold(values, count)
        for k in range(count):
            value = values[k] - threshold
            weights[start + positions[k]] = value if value > 0.0 else 0.0
            blocks[start + positions[k]] = first[k] + 1 if value > 0.0 else 0


@compiled
def _fuse_two(values, k, lam, first):
    """`_fuse` for a run of two."""
    half_difference = (values[k + 1] - values[k]) / 2.0
    step = min(max(half_difference, -lam), lam)
    values[k] += step
    values[k + 1] -= step
    first[k + 1] = k if abs(half_difference) <= lam else k + 1
    if first[k + 1] == k:
        values[k + 1] = values[k]


@compiled
def _fuse(values, start, end, lam, first, lower, upper, knots):
    """
    Replace `values[start:end]` by argmin_z 1/2 ||z - v||^2 + lam * sum_k |z[k + 1] - z[k]|, in linear time, and put
    the index of each block's first member in `first`.

    Dynamic programming (Johnson 2013, "A dynamic programming algorithm for the fused lasso and L0-segmentation").
    Let f_k(b) be the least cost of z[start..k] with z[k] = b. Its derivative is increasing and piecewise linear, and
    f_{k+1}'(b) = clip(f_k'(b), -lam, lam) + b - v[k + 1]. It is kept as its first and last line, each a slope and an
    intercept, and the knots between, each with what it adds to the line at its left. Then z[k] is z[k + 1] clipped
    to [lower[k], upper[k]], the ends of where f_k' is not cut off.
    """
    at, slope_step, intercept_step = knots[0], knots[1], knots[2]
    left = at.size // 2  # knots left .. right - 1 exist; each end grows by one for every value
    right = left
    first_intercept = -values[start]
    last_intercept = -values[start]
    for k in range(start, end - 1):
        slope, intercept = 1.0, first_intercept
        while left < right and slope * at[left] + intercept <= -lam:
            slope += slope_step[left]
            intercept += intercept_step[left]
            left += 1
        lower[k] = (-lam - intercept) / slope
        lower_slope, lower_intercept = slope, intercept

        slope, intercept = 1.0, last_intercept
        while left < right and slope * at[right - 1] + intercept >= lam:
            right -= 1
            slope -= slope_step[right]
            intercept -= intercept_step[right]
        upper[k] = (lam - intercept) / slope

        left -= 1
        at[left], slope_step[left], intercept_step[left] = lower[k], lower_slope, lower_intercept + lam
        at[right], slope_step[right], intercept_step[right] = upper[k], -slope, lam - intercept
        right += 1
        first_intercept = -lam - values[k + 1]
        last_intercept = lam - values[k + 1]

    slope, intercept = 1.0, first_intercept
    while left < right and slope * at[left] + intercept <= 0.0:
        slope += slope_step[left]
        intercept += intercept_step[left]
        left += 1
    solution = -intercept / slope

    # Back from the end, block by block. What a block's neighbours do to it is known exactly, so its level is computed
    # anew from its own values, free of the rounding that the sums above carry along.
    sign_after = 0.0  # of the next block's level less this one's
    block_end = end
    for k in range(end - 1, start - 1, -1):
        sign_before = 0.0
        if k > start:
            if solution < lower[k - 1]:
                sign_before = 1.0
            elif solution > upper[k - 1]:
                sign_before = -1.0
            else:
                continue
        total = 0.0
        for member in range(k, block_end):
            total += values[member]
        level = (total + lam * (sign_before + sign_after)) / (block_end - k)
        for member in range(k, block_end):
            values[member] = level
            first[member] = k
        if k > start:
            solution = lower[k - 1] if sign_before > 0.0 else upper[k - 1]
        sign_after = -sign_before
        block_end = k


def oscarmax_numpy(first_row, end_row, starts, negatives, scores, mask, gamma, lams, weights, blocks):
    rows = slice(starts[first_row], starts[end_row])
    np.negative(scores[rows], out=negatives[rows])
    if mask is not None:
        np.copyto(negatives[rows], np.inf, where=~mask[rows])
    lengths = np.diff(starts[first_row : end_row + 1]).astype(np.int64)
    if lengths.min() == lengths.max() > 0:
        negatives[rows].reshape(-1, lengths[0]).sort(axis=1)  # numpy's is vectorized, which none compiled here is
    else:
        _sort_rows(first_row, end_row, starts, negatives)
    _oscarmax_of_sorted(first_row, end_row, starts, negatives, scores, mask, gamma, lams, weights, blocks)


@compiled
def _sort_rows(first_row, end_row, starts, entries):
    for row in range(first_row, end_row):
        entries[starts[row] : starts[row + 1]].sort()


@compiled
def _oscarmax_of_sorted(first_row, end_row, starts, negatives, scores, mask, gamma, lams, weights, blocks):
    longest = _longest(first_row, end_row, starts)
    problem = np.empty(longest, np.float64)
    sums = np.empty(longest, np.float64)
    ends = np.empty(longest, np.int64)
    limits = np.empty(longest, np.float64)
    levels = np.empty(longest, np.float64)
    for row in range(first_row, end_row):
        start, length = starts[row], starts[row + 1] - starts[row]
        lam = lams[row if lams.size > 1 else 0]
        maximum, has_solution = _load(scores, mask, start, length, problem)
        if not has_solution or not 0.0 <= lam < np.inf:
            _fail(problem, start, length, weights, blocks)
            continue
        lam = min(lam, LARGEST_LAM)
        ordered = negatives[start : start + length]
        count = ordered.size
        while count > 0 and ordered[count - 1] == np.inf:
            count -= 1
        if count == 0:
            weights[start : start + length] = 0.0
            blocks[start : start + length] = 0
            continue
        num_groups = _group(ordered, count, maximum, gamma, lam, sums, ends)

        # The threshold that makes the sum of max(level - threshold, 0) one. Levels are decreasing, and measured
        # from the first, so that large ones lose no digits.
        total = 0.0
        threshold = -np.inf
        num_supported = 0
        for group in range(num_groups):
            size = ends[group] - (ends[group - 1] if group > 0 else 0)
            level = sums[group] / size - sums[0] / ends[0]
            if level <= threshold:
                break
            total += level * size
            threshold = (total - 1.0) / ends[group]
            levels[group] = level
            limits[group] = -ordered[ends[group] - 1]
            num_supported = group + 1

        # Equal scores are in one group, so a score tells its group.
        if num_supported == 1:
            weight = 1.0 / ends[0]
            for position in range(length):
                is_supported = problem[position] >= limits[0]
                weights[start + position] = weight if is_supported else 0.0
                blocks[start + position] = is_supported
        else:
            least = limits[num_supported - 1]
            for position in range(length):
                score = problem[position]
                if score >= least:
                    group = _first_reached(limits, num_supported, score)
                    weights[start + position] = levels[group] - threshold
                    blocks[start + position] = group + 1
                else:
                    weights[start + position] = 0.0
                    blocks[start + position] = 0
        if lam == 0.0:  # then equal scores are not drawn together: each is a block of its own
            for position in range(length):
                blocks[start + position] = np.int64(position) + 1 if weights[start + position] > 0.0 else 0


@compiled
def _first_reached(limits, count, score):
    """The first of the decreasing `limits[:count]` that `score` reaches; it reaches the last."""
    first, last = 0, count - 1
    while first < last:
        middle = (first + last) // 2
        if score >= limits[middle]:
            last = middle
        else:
            first = middle + 1
    return first


@compiled
def _group(ordered, count, maximum, gamma, lam, sums, ends):
    """
    The non-increasing isotonic regression of v[k] - lam * (count - 1 - k), v the values in decreasing order, by
    pooling adjacent violators. Fills the groups' sums and ends, and returns their number.
    """
    bound = -1.0 - lam * (count - 1)  # the weight of a value down there is 0
    num_groups = 0
    start = 0  # of the last group, which is kept here
    total = -lam * (count - 1)
    for k in range(1, count):
        value = (-np.float64(ordered[k]) - maximum) / gamma
        value = (value if value > bound - 1.0 else bound - 1.0) - lam * (count - 1 - k)
        if total < value * (k - start):
            total += value
            # A group with a lower mean than the one after it becomes one with that.
            while num_groups > 0:
                start_before = ends[num_groups - 2] if num_groups > 1 else 0
                if sums[num_groups - 1] * (k + 1 - start) >= total * (start - start_before):
                    break
                num_groups -= 1
                total += sums[num_groups]
                start = start_before
        else:
            sums[num_groups] = total
            ends[num_groups] = k
            num_groups += 1
            start = k
            total = value
    sums[num_groups] = total
    ends[num_groups] = count
    return num_groups + 1


@compiled
def entmax_numpy(first_row, end_row, starts, scores, mask, gamma, alphas, tolerance, weights):
    """How far from 1 the sum of the weights may be, before that is shared among them, is the `tolerance`."""
    longest = _longest(first_row, end_row, starts)
    problem = np.empty(longest, np.float64)
    values = np.empty(longest + 1, np.float64)
    solved = np.empty(longest + 1, np.float64)
    positions = np.empty(longest + 1, np.uint64)
    for row in range(first_row, end_row):
        start, length = starts[row], starts[row + 1] - starts[row]
        order = alphas[row if alphas.size > 1 else 0] - 1.0
        maximum, has_solution = _load(scores, mask, start, length, problem)
        if not has_solution or not 0.0 <= order < np.inf:
            _fail(problem, start, length, weights, None)
            continue
        # The weight of a value below is 0, or what a float cannot tell from that.
        bound = max(-1.0 / order, LOWEST_EXPONENT)
        count, _ = _gather(problem, start, length, maximum, gamma, bound, values, positions, None, weights)
        if count == 0:
            continue
        if order == 1.0:
            threshold = _simplex_threshold(values, count)
            for k in range(count):
                solved[k] = max(values[k] - threshold, 0.0)
        elif order == 0.5:
            threshold = _square_threshold(values, count)
            for k in range(count):
                root = max(values[k] / 2.0 - threshold, 0.0)
                solved[k] = root * root
        elif order > 1.0:
            _from_the_smallest(values, count, order, tolerance, solved)
        elif order > 0.0:
            count = _from_the_largest(values, positions, count, order, tolerance, solved)
        else:
            total = _exponentials(values, count, solved)
            for k in range(count):
                solved[k] /= total
        for k in range(count):
            weights[start + positions[k]] = solved[k]


@compiled
def _square_threshold(values, count):
    """
    The t with sum(max(v / 2 - t, 0)^2) = 1 for v = `values[:count]`, of which the largest is 0. The sum is convex and
    falls with t, so Newton's method stays below the solution if it begins there, as at -1.
    """
    threshold = -1.0
    while True:
        total, squares, _ = _sums_of_powers(values, count, threshold)
        step = (squares - 1.0) / (2.0 * total)
        threshold += step
        if not step > 1e-15:  # rounding: t is between -1 and 0
            return threshold


@vectorized
def _sums_of_powers(values, count, threshold):
    """Those of max(v / 2 - threshold, 0): of the first, second and third."""
    total, squares, cubes = 0.0, 0.0, 0.0
    for k in range(count):
        root = max(values[k] / 2.0 - threshold, 0.0)
        total += root
        squares += root * root
        cubes += root * root * root
    return total, squares, cubes


@vectorized
def _sum_powers(values, first, end, scale, exponent, factor, weights):
    total, total_below = 0.0, 0.0
    for k in range(first, end):
        ratio = 1.0 + scale * values[k]
        below = _power(ratio, exponent)
        weights[k] = factor * below * ratio
        total += weights[k]
        total_below += below
    return total, total_below


@vectorized
def _power(x, exponent):
    """x^exponent for 0 < x <= 1 and an exponent of 0 or above."""
    bits = np.float64(x).view(np.int64)
    k = (bits - SQRT_HALF_BITS) >> 52  # x = m * 2^k, m from sqrt(1/2) to sqrt(2)
    m = np.int64(bits - (k << 52)).view(np.float64)
    f = (m - 1.0) / (m + 1.0)
    power_series = 0.0
    for coefficient in LOGARITHM_COEFFICIENTS:
        power_series = power_series * (f * f) + coefficient
    return _exponential(exponent * (k * LOG_2 + f * power_series))


@vectorized
def _exponentials(values, count, exponentials):
    """Of values that are 0 or below. Returns their sum."""
    total = 0.0
    for k in range(count):
        exponentials[k] = _exponential(values[k])
        total += exponentials[k]
    return total


@vectorized
def _exponential(x):
    """exp(x) for x <= 0, 2^k * exp(r) with a small r. (Loops with the exponential of the C library stay scalar.)"""
    clipped = max(x, LOWEST_EXPONENT)
    k = np.floor(clipped / LOG_2 + 0.5)
    r = clipped - k * LOG_2
    power_series = 0.0
    for coefficient in EXPONENTIAL_COEFFICIENTS:
        power_series = power_series * r + coefficient
    power_of_2 = np.int64((np.int64(k) + 1023) << 52).view(np.float64)  # its bits
    return power_series * power_of_2 if x > LOWEST_EXPONENT else 0.0


@compiled
def _from_the_largest(values, positions, count, order, tolerance, weights):
    """
    The weights for an order a = alpha - 1 between 0 and 1: p_i = max(c + a * v_i, 0)^(1 / a), c such that they sum to
    1. With l = log(c) / a, the logarithm of the largest weight, log p_i = l + log1p(a * v_i / c) / a, which loses no
    digits for any a. Values that have no weight are dropped, with their positions. Returns how many are left.

    h(c) = ||p||_1^a, which is to be 1, is the (1 / a)-norm of max(c + a * v, 0). So it is convex, with a slope between
    1 and n^a for n weights, and Newton's method comes to it from above.
    """
    inverse = 1.0 / order
    is_small = order < LEAST_ORDER_OF_POWERS
    largest, top = 0.0, 1.0  # at first as large as it can be; l is needed for small a only
    total_before = np.inf
    while True:
        num_left = 0
        for k in range(count):
            values[num_left], positions[num_left] = values[k], positions[k]
            num_left += order * values[k] > -top
        count = num_left
        # With r = max(c + a * v, 0) / c and b = r^(1 / a - 1): p = p_max * b * r, and the slope of h is
        # total^(a - 1) / c * p_max times the sum of b.
        scale, factor = order / top, math.exp(largest) if is_small else top**inverse
        total, slope = 0.0, 0.0
        for first in range(0, count, TERMS_IN_A_ROW):
            end = min(first + TERMS_IN_A_ROW, count)
            if is_small:
                part, part_slope = 0.0, 0.0
                for k in range(first, end):
                    below = math.exp(math.log1p(scale * values[k]) * (inverse - 1.0))
                    weights[k] = factor * below * (1.0 + scale * values[k])
                    part += weights[k]
                    part_slope += below
            else:
                part, part_slope = _sum_powers(values, first, end, scale, inverse - 1.0, factor, weights)
            total += part
            slope += part_slope
        slope *= factor / top
        if not (total - 1.0 > tolerance and total < total_before):
            break
        total_before = total
        if is_small:
            step = -total * math.expm1(-order * math.log(total)) / slope
            largest += math.log1p(-min(step / top, 0.999)) * inverse
            top = math.exp(order * largest)
        else:
            step = (total - total ** (1.0 - order)) / slope
            top = max(top - step, 0.001 * top)

    # What is left over is shared as a last step would share it.
    factor = (1.0 - total) / slope
    for k in range(count):
        weights[k] += factor * weights[k] / (top + order * values[k])
    return count


@compiled
def _from_the_smallest(values, count, order, tolerance, weights):
    """
    The weights for an order a = alpha - 1 above 1. A root makes small weights of tiny differences, so they may not
    come from larger numbers. With p_k the smallest weight above 0, of the value v_k, all terms of
    p_i = (p_k^a + a * (v_i - v_k))^(1 / a) are 0 or above.

    A value v_k is in the support if the larger ones leave something of 1: sum_i (a * max(v_i - v_k, 0))^(1 / a) < 1.
    Lower values leave less, so the smallest is found by halving. Then p_k is where the sum of all weights is 1. That
    is convex, with a slope between 1 and n; for a support of n weights p_k is at most 1 / n, where Newton's method
    begins.
    """
    ordered = weights[:count]
    ordered[:] = values[:count]
    ordered.sort()
    first, last = 0, count - 1  # of the increasing values, the smallest in the support is between
    while first < last:
        middle = (first + last) // 2
        total = 0.0
        for k in range(middle + 1, count):
            total += _root(order * (ordered[k] - ordered[middle]), order)
        if total < 1.0:
            last = middle
        else:
            first = middle + 1
    smallest = ordered[first]
    num_smallest, num_larger = 0.0, 0.0
    for k in range(count):
        num_smallest += values[k] == smallest
        num_larger += values[k] > smallest
    weight = 1.0 / (num_smallest + num_larger)
    total_before, is_last = np.inf, False
    while True:
        power = weight**order
        total, slope = num_smallest * weight, num_smallest
        for first in range(0, count, TERMS_IN_A_ROW):
            part, part_slope = 0.0, 0.0
            for k in range(first, min(first + TERMS_IN_A_ROW, count)):
                weights[k] = weight if values[k] == smallest else 0.0
                if values[k] > smallest:
                    weights[k] = _root(power + order * (values[k] - smallest), order)
                    part += weights[k]
                    part_slope += (weight / weights[k]) ** (order - 1.0)
            total += part
            slope += part_slope
        # As in `_from_the_largest`; but here what is left over is the smallest weight's affair.
        if is_last:
            break
        is_last = not (total - 1.0 > tolerance and total < total_before)
        total_before = total
        weight = max(weight - (total - 1.0) / slope, 0.0)


@compiled
def _root(number, order):
    return math.sqrt(number) if order == 2.0 else number ** (1.0 / order)


@compiled
def entmax_jacobian_numpy(first_row, end_row, starts, vector, weights, alphas, product):
    longest = _longest(first_row, end_row, starts)
    positions = np.empty(longest + 1, np.uint64)
    shares = np.empty(longest + 1, np.float64)
    for row in range(first_row, end_row):
        start, length = starts[row], starts[row + 1] - starts[row]
        exponent = 2.0 - alphas[row if alphas.size > 1 else 0]
        count = _support(weights, start, length, positions, product)
        pivot = 0
        for k in range(count):
            weight = np.float64(weights[start + positions[k]])
            if exponent == 0.5:
                shares[k] = math.sqrt(weight)
            elif exponent == 0.0 or exponent == 1.0:
                shares[k] = weight if exponent == 1.0 else 1.0
            else:
                shares[k] = min(weight**exponent, LARGEST_SHARE) if exponent < 0.0 else _power(weight, exponent)
            pivot = k if shares[k] > shares[pivot] else pivot
        # The product is the same for a vector with a constant added. With 0 where the share is largest, which may
        # be by 1e20, no digits of the others are lost in the mean.
        origin = np.float64(vector[start + positions[pivot]]) if count > 0 else 0.0
        total, mean = 0.0, 0.0
        for k in range(count):
            total += shares[k]
            mean += shares[k] * (vector[start + positions[k]] - origin)
        mean /= total
        for k in range(count):
            product[start + positions[k]] = shares[k] * (vector[start + positions[k]] - origin - mean)


@compiled
def entmax_alpha_gradient_numpy(first_row, end_row, starts, gradient, weights, alphas, sums):
    """
    For each row, minus the sum of the gradient times how the slopes of Omega change with alpha: with l = log(p) and
    x = (alpha - 1) * l that is l^2 * (x * exp(x) - exp(x) + 1) / x^2.
    """
    for row in range(first_row, end_row):
        order = alphas[row if alphas.size > 1 else 0] - 1.0
        total = 0.0
        for position in range(starts[row], starts[row + 1]):
            if weights[position] != 0.0:
                logarithm = math.log(weights[position])
                x = order * logarithm
                if x < -0.5:
                    moment = ((x - 1.0) * math.exp(x) + 1.0) / (x * x)
                else:  # where that would lose digits, its series
                    moment = 0.0
                    for coefficient in MOMENT_COEFFICIENTS:
                        moment = moment * x + coefficient
                total -= gradient[position] * logarithm * logarithm * moment
        sums[row] = total


@compiled
def p_norm_numpy(first_row, end_row, starts, scores, mask, gamma, exponent, is_squared, tolerance, weights):
    """
    With a = max(v - t, 0) and d = q / (q - 1), the dual exponent: the weights are proportional to a^(d - 1), for
    Omega = 1/2 ||p||_q^2, where `is_squared`, as for ||p||_q. What differs is t.

    For the square v_i - t = ||p||_q^(2 - q) * p_i^(q - 1) on the support. The weights that solve this sum to 1 where
    the derivative of the convex dual problem, min_t t + 1/2 ||a||_d^2, is 0: F(m) = 1, m being -t, and so the largest
    of a, and F(m) = ||a||_d^(2 - d) * sum_i a_i^(d - 1). For the norm v_i - t = (p_i / ||p||_q)^(q - 1), and
    F(m) = ||a||_d is 1.

    F grows with m; it is at least m, and for n values at most m * n^(2 / d). A step of Newton's method is taken if it
    stays in this bracket, and is at most half the step before; else the bracket is halved.
    """
    longest = _longest(first_row, end_row, starts)
    problem = np.empty(longest, np.float64)
    values = np.empty(longest + 1, np.float64)
    positions = np.empty(longest + 1, np.uint64)
    powers = np.empty(longest + 1, np.float64)
    dual = exponent / (exponent - 1.0)
    if exponent > 2.0:  # the smallest weights change with the last digits of m
        tolerance = min(tolerance, 1e-14)
    for row in range(first_row, end_row):
        start, length = starts[row], starts[row + 1] - starts[row]
        maximum, has_solution = _load(scores, mask, start, length, problem)
        if not has_solution:
            _fail(problem, start, length, weights, None)
            continue
        count, _ = _gather(problem, start, length, maximum, gamma, -1.0, values, positions, None, weights)
        if count == 0:
            continue
        low, high = np.float64(count) ** (-2.0 / dual), 1.0
        middle, step = high, high - low
        total, is_last = 0.0, False
        while True:
            below, total, above = _sums_of_dual_powers(values, count, middle, dual, powers)
            if is_squared:
                scale = above ** ((2.0 - dual) / dual)
                excess = middle * scale * total - 1.0
                slope = (dual - 1.0) * scale * below - (dual - 2.0) * scale * total * total / above
            else:
                excess = middle * above ** (1.0 / dual) - 1.0
                slope = total * above ** (1.0 / dual - 1.0)
            if is_last:
                break
            is_last = abs(excess) <= tolerance
            low, high = (low, middle) if excess > 0.0 else (middle, high)
            following = middle - excess / slope
            if not (is_last or (low < following < high and abs(following - middle) <= 0.5 * step)):
                following = 0.5 * (low + high)
            middle, step = following, abs(following - middle)
            is_last = is_last or step <= EPSILON * high
        for k in range(count):
            weights[start + positions[k]] = powers[k] / total


@vectorized
def _sums_of_dual_powers(values, count, largest, dual, powers):
    """Those of the ratios max(v + m, 0) / m to the powers of d - 2, d - 1 and d. Fills `powers` with the second."""
    below, total, above = 0.0, 0.0, 0.0
    for k in range(count):
        ratio = max(1.0 + values[k] / largest, 0.0)
        present = max(ratio, 1e-300)
        powers[k] = _power(present, dual - 1.0) if ratio > 0.0 else 0.0
        below += powers[k] / present
        total += powers[k]
        above += powers[k] * ratio
    return below, total, above


@compiled
def squared_p_norm_jacobian_numpy(first_row, end_row, starts, vector, weights, exponent, product):
    """`_jacobian_product` of the operator, which says what the numbers are."""
    positions = np.empty(_longest(first_row, end_row, starts) + 1, np.uint64)
    diagonal = np.empty(_longest(first_row, end_row, starts) + 1, np.float64)
    for row in range(first_row, end_row):
        start, length = starts[row], starts[row + 1] - starts[row]
        count = _support(weights, start, length, positions, product)
        powers = 0.0
        for k in range(count):
            weight = np.float64(weights[start + positions[k]])
            diagonal[k] = weight ** (2.0 - exponent)
            powers += weight * weight / diagonal[k]
        norm = powers ** (1.0 / exponent)
        factor = (2.0 - exponent) / (norm * norm)
        scale = norm ** (exponent - 2.0)
        total_weight, weighted = 0.0, 0.0
        for k in range(count):
            weight = np.float64(weights[start + positions[k]])
            total_weight += weight
            weighted += weight * vector[start + positions[k]]
        of_vector, of_ones = 0.0, 0.0
        for k in range(count):
            weight = np.float64(weights[start + positions[k]])
            diagonal[k] *= scale
            of_vector += diagonal[k] * vector[start + positions[k]] - factor * weight * weighted
            of_ones += diagonal[k] - factor * weight * total_weight
        mean = of_vector / of_ones
        for k in range(count):
            weight = np.float64(weights[start + positions[k]])
            of_vector = diagonal[k] * vector[start + positions[k]] - factor * weight * weighted
            of_ones = diagonal[k] - factor * weight * total_weight
            product[start + positions[k]] = (of_vector - of_ones * mean) / (exponent - 1.0)


@compiled
def normmax_jacobian_numpy(first_row, end_row, starts, vector, weights, exponent, product):
    """`_jacobian_product` of the operator, which says what the numbers are."""
    longest = _longest(first_row, end_row, starts)
    positions = np.empty(longest + 1, np.uint64)
    changes = np.empty(longest + 1, np.float64)
    for row in range(first_row, end_row):
        start, length = starts[row], starts[row + 1] - starts[row]
        count = _support(weights, start, length, positions, product)
        largest, mean = 0.0, 0.0
        for k in range(count):
            weight = np.float64(weights[start + positions[k]])
            largest = max(largest, weight)
            mean += weight * vector[start + positions[k]]
        powers = 0.0  # relative to the largest none is too small in all places
        for k in range(count):
            powers += (weights[start + positions[k]] / largest) ** exponent
        norm = largest * powers ** (1.0 / exponent)
        total = 0.0
        for k in range(count):
            ratio = np.float64(weights[start + positions[k]]) / norm
            factor = min(ratio ** (2.0 - exponent), LARGEST_SHARE) / (exponent - 1.0)
            changes[k] = factor * (vector[start + positions[k]] - mean)
            total += changes[k]
        for k in range(count):
            product[start + positions[k]] = norm * (changes[k] - weights[start + positions[k]] * total)


@compiled
def _support(weights, start, length, positions, product):
    """Put where the row's weights are not 0 in `positions`, and fill `product` with 0. Returns how many there are."""
    count = 0
    for position in range(length):
        positions[count] = position
        count += weights[start + position] != 0.0  # NaN, in a row that has no solution, counts
        product[start + position] = 0.0
    return count


@compiled
def support_jacobian_numpy(first_row, end_row, starts, vector, weights, gamma, product):
    positions = np.empty(_longest(first_row, end_row, starts) + 1, np.uint64)
    for row in range(first_row, end_row):
        start, length = starts[row], starts[row + 1] - starts[row]
        count = _support(weights, start, length, positions, product)
        total = 0.0
        for k in range(count):
            total += vector[start + positions[k]]
        if count > 0 and np.isnan(weights[start + positions[0]]):
            total = np.nan
        mean = total / count
        for k in range(count):
            product[start + positions[k]] = (vector[start + positions[k]] - mean) / gamma


@compiled
def block_jacobian_numpy(first_row, end_row, starts, vector, blocks, gamma, product):
    longest = _longest(first_row, end_row, starts)
    positions = np.empty(longest + 1, np.uint64)
    sums = np.empty(2 * longest + 2, np.float64)  # as far as the GPU's kernels number blocks
    sizes = np.empty(2 * longest + 2, np.int64)
    for row in range(first_row, end_row):
        start, length = starts[row], starts[row + 1] - starts[row]
        count = 0
        highest = 0
        lowest = 2 * longest
        for position in range(length):
            block = blocks[start + position]
            positions[count] = position
            count += block != 0
            highest = block if block > highest else highest
            lowest = block if block != 0 and block < lowest else lowest
            product[start + position] = 0.0
        if lowest >= highest:  # one block, whose mean is that of the support, or none
            continue
        if lowest < 0:
            for k in range(count):
                product[start + positions[k]] = np.nan
            continue
        for block in range(lowest, highest + 1):
            sums[block] = 0.0
            sizes[block] = 0
        total = 0.0
        for k in range(count):
            value = np.float64(vector[start + positions[k]])
            sums[blocks[start + positions[k]]] += value
            sizes[blocks[start + positions[k]]] += 1
            total += value
        mean = total / count
        for k in range(count):
            block = blocks[start + positions[k]]
            product[start + positions[k]] = (sums[block] / sizes[block] - mean) / gamma


def _run(
    solver: Callable, shape: tuple, offsets: Tensor | None, *arguments: Any, scores_per_thread: int | None = None
) -> None:
    """
    Call `solver` for all rows of entries of this shape (num_copies, num_entries), with the arguments given, arrays
    flattened. The rows are shared among threads where that pays.
    """
    num_copies, num_entries = shape
    size = num_copies * num_entries
    if size == 0:
        return
    if offsets is None:  # a row is a copy of a packing of one
        starts = np.arange(0, size + 1, num_entries, dtype=np.uint64)
    else:
        row_starts = _to_numpy(offsets)
        _check_offsets(row_starts, num_entries)
        first_starts = np.arange(0, size, num_entries)[:, None] + row_starts[:-1]
        starts = np.append(first_starts, size).astype(np.uint64)
    flat = [argument.reshape(-1) if isinstance(argument, np.ndarray) else argument for argument in arguments]
    _share_rows(solver, len(starts) - 1, size // (scores_per_thread or SCORES_PER_THREAD), starts, *flat)


def _share_rows(solver: Callable, num_rows: int, most_threads: int, *arguments: Any) -> None:
    """Call `solver` for all rows, by threads: with the first row, the row after the last, and the arguments."""
    num_threads = min(torch.get_num_threads(), num_rows, most_threads)
    if num_threads < 2:
        solver(0, num_rows, *arguments)
        return
    bounds = [num_rows * thread // num_threads for thread in range(num_threads + 1)]
    threads = [threading.Thread(target=solver, args=(*rows, *arguments)) for rows in pairwise(bounds)]
    for thread in threads[1:]:
        thread.start()
    threads[0].run()
    for thread in threads[1:]:
        thread.join()


def _check_offsets(offsets: np.ndarray, num_entries: int) -> None:
    if offsets[0] != 0:
        raise ValueError(f"offsets must begin with 0, but begin with {offsets[0]}")
    if offsets[-1] != num_entries:
        raise ValueError(f"offsets must end with {num_entries}, the number of entries, but end with {offsets[-1]}")
    decreases = np.flatnonzero(np.diff(offsets) < 0)
    if len(decreases) > 0:
        first = decreases[0]
        raise ValueError(
            f"offsets must not decrease, but offsets[{first + 1}] = {offsets[first + 1]} comes after {offsets[first]}"
        )


def _optional(rows: Tensor | None) -> np.ndarray | None:
    return None if rows is None else _to_numpy(rows)


def _to_numpy(rows: Tensor) -> np.ndarray:
    if rows.dtype in (torch.float16, torch.bfloat16):
        rows = rows.float()
    return rows.contiguous().numpy(force=True)


def _empty_like(array: np.ndarray, dtype: torch.dtype | None = None) -> np.ndarray:
    # From PyTorch's allocator: numpy's gives large arrays back to the system, and fetching them anew costs more than
    # solving them.
    return torch.empty(array.shape, dtype=dtype or DTYPES[array.dtype]).numpy()


def _to_tensor(array: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(array).to(like.device, like.dtype)


def sparsemax_rows(scores: Tensor, mask: Tensor | None, gamma: float, offsets: Tensor | None = None) -> Tensor:
    array = _to_numpy(scores)
    weights = _empty_like(array)
    _run(sparsemax_numpy, array.shape, offsets, array, _optional(mask), float(gamma), weights)
    return _to_tensor(weights, scores)


def fusedmax_rows(
    scores: Tensor, mask: Tensor | None, gamma: float, lam: float, lams: Tensor | None, offsets: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    array = _to_numpy(scores)
    return _solve_with_lam(fusedmax_numpy, (array,), scores, mask, gamma, lam, lams, offsets)


def oscarmax_rows(
    scores: Tensor, mask: Tensor | None, gamma: float, lam: float, lams: Tensor | None, offsets: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    array = _to_numpy(scores)
    return _solve_with_lam(oscarmax_numpy, (_empty_like(array), array), scores, mask, gamma, lam, lams, offsets)


def _solve_with_lam(
    solver: Callable, arrays: tuple, scores: Tensor, mask: Tensor | None, gamma: float, lam: float,
    lams: Tensor | None, offsets: Tensor | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    weights = _empty_like(arrays[0])
    blocks = _empty_like(arrays[0], torch.int32)
    by_row = _parameters(lam, lams)
    _run(solver, weights.shape, offsets, *arrays, _optional(mask), float(gamma), by_row, weights, blocks)
    return _to_tensor(weights, scores), torch.from_numpy(blocks).to(scores.device)


def _parameters(parameter: float, parameters: Tensor | None) -> np.ndarray:
    """One number for each row, or for all."""
    return np.array([parameter], np.float64) if parameters is None else _to_numpy(parameters.double())


def entmax_rows(
    scores: Tensor, mask: Tensor | None, gamma: float, alpha: float, alphas: Tensor | None, may_exceed_2: bool,
    offsets: Tensor | None = None,
) -> Tensor:  # fmt: skip
    return _solve_by_steps(entmax_numpy, scores, mask, gamma, offsets, _parameters(alpha, alphas))


def squared_p_norm_max_rows(
    scores: Tensor, mask: Tensor | None, gamma: float, exponent: float, offsets: Tensor | None = None
) -> Tensor:
    return _solve_by_steps(p_norm_numpy, scores, mask, gamma, offsets, float(exponent), True)


def normmax_rows(
    scores: Tensor, mask: Tensor | None, gamma: float, exponent: float, offsets: Tensor | None = None
) -> Tensor:
    return _solve_by_steps(p_norm_numpy, scores, mask, gamma, offsets, float(exponent), False)


def _solve_by_steps(
    solver: Callable, scores: Tensor, mask: Tensor | None, gamma: float, offsets: Tensor | None, *parameters: Any
) -> Tensor:
    array = _to_numpy(scores)
    weights = _empty_like(array)
    arguments = array, _optional(mask), float(gamma), *parameters, TOLERANCES[array.dtype], weights
    _run(solver, array.shape, offsets, *arguments, scores_per_thread=SCORES_PER_THREAD_BY_STEPS)
    return _to_tensor(weights, scores)


def support_jacobian_rows(vector: Tensor, weights: Tensor, gamma: float, offsets: Tensor | None = None) -> Tensor:
    return _multiply(support_jacobian_numpy, vector, offsets, _to_numpy(weights), float(gamma))


def block_jacobian_rows(vector: Tensor, blocks: Tensor, gamma: float, offsets: Tensor | None = None) -> Tensor:
    return _multiply(block_jacobian_numpy, vector, offsets, _to_numpy(blocks), float(gamma))


def _multiply(jacobian: Callable, vector: Tensor, offsets: Tensor | None, *arguments: Any) -> Tensor:
    array = _to_numpy(vector)
    product = _empty_like(array)
    _run(jacobian, array.shape, offsets, array, *arguments, product)
    return _to_tensor(product, vector)


def entmax_jacobian_rows(
    vector: Tensor, weights: Tensor, alpha: float, alphas: Tensor | None, offsets: Tensor | None = None
) -> Tensor:
    return _multiply(entmax_jacobian_numpy, vector, offsets, _to_numpy(weights), _parameters(alpha, alphas))


def entmax_alpha_gradient_rows(
    gradient: Tensor, weights: Tensor, alphas: Tensor, offsets: Tensor | None = None
) -> Tensor:
    """One number for each row, in the shape of the alphas."""
    array, by_row = _to_numpy(gradient), _to_numpy(alphas.double())
    sums = np.empty(by_row.shape)
    _run(entmax_alpha_gradient_numpy, array.shape, offsets, array, _to_numpy(weights), by_row, sums)
    return _to_tensor(sums, alphas)


def squared_p_norm_jacobian_rows(
    vector: Tensor, weights: Tensor, exponent: float, offsets: Tensor | None = None
) -> Tensor:
    return _multiply(squared_p_norm_jacobian_numpy, vector, offsets, _to_numpy(weights), float(exponent))


def normmax_jacobian_rows(vector: Tensor, weights: Tensor, exponent: float, offsets: Tensor | None = None) -> Tensor:
    return _multiply(normmax_jacobian_numpy, vector, offsets, _to_numpy(weights), float(exponent))


def constrained_sparsemax_rows(
    scores: Tensor, mask: Tensor | None, gamma: float, upper: float, budget: float, tolerance: float,
    offsets: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    array = _to_numpy(scores)
    weights = _empty_like(array)
    blocks = _empty_like(array, torch.int32)
    numbers = float(gamma), float(upper), float(budget), tolerance
    _run(constrained_sparsemax_numpy, array.shape, offsets, array, _optional(mask), *numbers, weights, blocks)
    return _to_tensor(weights, scores), torch.from_numpy(blocks).to(scores.device)
