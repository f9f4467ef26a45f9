"""
The row solvers on the CPU, compiled by numba. The compiled code is cached on disk, and runs without Python's lock.

All of them work on v = (x - max x) / gamma in float64. Scores far enough below the maximum have weight 0 whatever
else is in the row, and lowering or raising them to a bound below that changes no weight; they are raised to it, so
that all numbers here have a known, moderate range.
"""

from collections.abc import Callable

import numba
import numpy as np
import torch
from torch import Tensor

compiled = numba.njit(cache=True, nogil=True, error_model="numpy")

# How far below the bound of weight zero a score must be before it is raised: rounding then cannot lift it above.
SLACK = 1.0


@compiled
def _gather(scores, gamma, values, positions):
    """
    Copy the row's problem to the front of `values`, largest value 0, and where it came from to `positions`.
    Returns the number of values, or -1 if the row holds NaN or +inf and so has no solution.
    """
    count = 0
    maximum = -np.inf
    for position in range(scores.size):
        score = scores[position]
        if score == -np.inf:
            continue
        if not score < np.inf:
            return -1
        values[count] = score
        positions[count] = position
        maximum = max(maximum, values[count])
        count += 1
    for k in range(count):
        values[k] = (values[k] - maximum) / gamma
    return count


@compiled
def _raise_to(bound, values, count):
    for k in range(count):
        values[k] = max(values[k], bound - SLACK)


@compiled
def _project_on_simplex(values, count):
    """
    Replace `values[:count]` by their Euclidean projection on the probability simplex: max(z - t, 0), t such that the
    sum is 1. Michelot's method (1986): t from all candidates, drop those at or below t, until none is dropped.
    """
    maximum = -np.inf
    for k in range(count):
        maximum = max(maximum, values[k])
    threshold = -1.0  # of the values less their maximum: one value alone would get all the weight
    num_active = count + 1
    while True:
        total = 0.0
        num_above = 0
        for k in range(count):
            value = values[k] - maximum
            if value > threshold:
                total += value
                num_above += 1
        # Fewer every time, but for rounding: that may let a dropped candidate in again, and must not go on forever.
        if num_above >= num_active:
            break
        num_active = num_above
        threshold = (total - 1.0) / num_active
    for k in range(count):
        values[k] = max(values[k] - maximum - threshold, 0.0)


@compiled
def _scatter(values, positions, count, weights):
    weights[:] = 0.0
    for k in range(count):
        weights[positions[k]] = values[k]


@compiled
def _fail(scores, weights, blocks):
    """The answer for a row with NaN or +inf: NaN at every position that is in the problem."""
    for position in range(scores.size):
        weights[position] = 0.0 if scores[position] == -np.inf else np.nan
        blocks[position] = position


@compiled
def sparsemax_numpy(scores, gamma, weights, blocks):
    num_rows, length = scores.shape
    values = np.empty(length, np.float64)
    positions = np.empty(length, np.int64)
    for row in range(num_rows):
        count = _gather(scores[row], gamma, values, positions)
        if count < 0:
            _fail(scores[row], weights[row], blocks[row])
            continue
        for position in range(length):
            blocks[row, position] = position
        _raise_to(-1.0, values, count)
        if count > 0:
            _project_on_simplex(values, count)
        _scatter(values, positions, count, weights[row])


@compiled
def fusedmax_numpy(scores, gamma, lam, weights, blocks):
    num_rows, length = scores.shape
    values = np.empty(length, np.float64)
    positions = np.empty(length, np.int64)
    lower = np.empty(length, np.float64)
    upper = np.empty(length, np.float64)
    knots = np.empty((3, 2 * length), np.float64)
    for row in range(num_rows):
        count = _gather(scores[row], gamma, values, positions)
        if count < 0:
            _fail(scores[row], weights[row], blocks[row])
            continue
        for position in range(length):
            blocks[row, position] = position
        _raise_to(-1.0 - 4.0 * lam, values, count)
        if count > 0:
            _fuse(values, count, lam, lower, upper, knots, positions, blocks[row])
            _project_on_simplex(values, count)
        _scatter(values, positions, count, weights[row])


@compiled
def _fuse(values, count, lam, lower, upper, knots, positions, blocks):
    """
    Replace `values[:count]` by argmin_z 1/2 ||z - v||^2 + lam * sum_k |z[k + 1] - z[k]|, in O(count).

    Dynamic programming (Johnson 2013, "A dynamic programming algorithm for the fused lasso and L0-segmentation").
    Let f_k(b) be the least cost of z[0..k] with z[k] = b. Its derivative is increasing and piecewise linear, and
    f_{k+1}'(b) = clip(f_k'(b), -lam, lam) + b - v[k + 1]. It is kept as its first and last line, each a slope and an
    intercept, and the knots between, each with what it adds to the line at its left. Then z[k] is z[k + 1] clipped
    to [lower[k], upper[k]], the ends of where f_k' is not cut off.
    """
    at, slope_step, intercept_step = knots[0], knots[1], knots[2]
    left = count  # knots left .. right - 1 exist; each end grows by one for every value
    right = count
    first_intercept = -values[0]
    last_intercept = -values[0]
    for k in range(count - 1):
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
    end = count
    for k in range(count - 1, -1, -1):
        sign_before = 0.0
        if k > 0:
            if solution < lower[k - 1]:
                sign_before = 1.0
            elif solution > upper[k - 1]:
                sign_before = -1.0
            else:
                continue
        total = 0.0
        for member in range(k, end):
            total += values[member]
        level = (total + lam * (sign_before + sign_after)) / (end - k)
        for member in range(k, end):
            values[member] = level
            blocks[positions[member]] = positions[k]
        if k > 0:
            solution = lower[k - 1] if sign_before > 0.0 else upper[k - 1]
        sign_after = -sign_before
        end = k


@compiled
def oscarmax_numpy(scores, gamma, lam, weights, blocks):
    num_rows, length = scores.shape
    values = np.empty(length, np.float64)
    positions = np.empty(length, np.int64)
    sums = np.empty(length, np.float64)
    starts = np.empty(length, np.int64)
    for row in range(num_rows):
        count = _gather(scores[row], gamma, values, positions)
        if count < 0:
            _fail(scores[row], weights[row], blocks[row])
            continue
        for position in range(length):
            blocks[row, position] = position
        _raise_to(-1.0 - lam * (count - 1), values, count)
        if count > 0:
            _group(values, count, lam, sums, starts, positions, blocks[row])
            _project_on_simplex(values, count)
        _scatter(values, positions, count, weights[row])


@compiled
def _group(values, count, lam, sums, starts, positions, blocks):
    """
    Replace `values[:count]` by z, where P_simplex(z) is oscarmax: with the values in decreasing order, the
    non-increasing isotonic regression of v[k] - lam * (count - 1 - k), by pooling adjacent violators.
    """
    order = np.argsort(-values[:count], kind="mergesort")
    num_groups = 0
    for k in range(count):
        total = values[order[k]] - lam * (count - 1 - k)
        start = k
        # The group before has the lower mean: the two become one.
        while num_groups > 0 and sums[num_groups - 1] * (k + 1 - start) < total * (start - starts[num_groups - 1]):
            num_groups -= 1
            total += sums[num_groups]
            start = starts[num_groups]
        sums[num_groups] = total
        starts[num_groups] = start
        num_groups += 1
    end = count
    for group in range(num_groups - 1, -1, -1):
        start = starts[group]
        level = sums[group] / (end - start)
        for k in range(start, end):
            values[order[k]] = level
            blocks[positions[order[k]]] = positions[order[start]]
        end = start


@compiled
def jacobian_numpy(upstream, weights, blocks, gamma, gradient):
    num_rows, length = upstream.shape
    sums = np.zeros(length, np.float64)
    sizes = np.zeros(length, np.int64)
    for row in range(num_rows):
        total = 0.0
        num_supported = 0
        for position in range(length):
            if weights[row, position] != 0.0:  # NaN, in a row that has no solution, counts
                block = blocks[row, position]
                sums[block] += upstream[row, position]
                sizes[block] += 1
                total += upstream[row, position]
                num_supported += 1
        for position in range(length):
            weight = weights[row, position]
            if weight == 0.0:
                gradient[row, position] = 0.0
            elif weight != weight:
                gradient[row, position] = np.nan
            else:
                block = blocks[row, position]
                gradient[row, position] = (sums[block] / sizes[block] - total / num_supported) / gamma
        sums[:] = 0.0
        sizes[:] = 0


def _solve(solver: Callable, scores: Tensor, *regularization: float) -> tuple[Tensor, Tensor]:
    weights = torch.empty(scores.shape, dtype=scores.dtype)
    blocks = torch.empty(scores.shape, dtype=torch.int32)
    solver(scores.detach().cpu().numpy(), *map(float, regularization), weights.numpy(), blocks.numpy())
    return weights.to(scores.device), blocks.to(scores.device)


def sparsemax_rows(scores: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    return _solve(sparsemax_numpy, scores, gamma)


def fusedmax_rows(scores: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    return _solve(fusedmax_numpy, scores, gamma, lam)


def oscarmax_rows(scores: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    return _solve(oscarmax_numpy, scores, gamma, lam)


def jacobian_rows(upstream: Tensor, weights: Tensor, blocks: Tensor, gamma: float) -> Tensor:
    gradient = torch.empty(upstream.shape, dtype=upstream.dtype)
    jacobian_numpy(
        upstream.detach().cpu().contiguous().numpy(),
        weights.detach().cpu().numpy(),
        blocks.cpu().numpy(),
        float(gamma),
        gradient.numpy(),
    )
    return gradient.to(upstream.device)
