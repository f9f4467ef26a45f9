"""
The row solvers on the CPU, compiled by numba. The compiled code is cached on disk, and runs without Python's lock.

All of them work on v = (x - max x) / gamma in float64, and most only on the candidates: the scores so near the
maximum that their weight may be above 0. Loops select rather than branch: the branches would be mispredicted often.
"""

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


# Numbers above this are as good as it, and products with them infinite.
LARGEST_LAM = 1e290


@compiled
def _problem(scores, mask, row, buffer):
    """The row's scores, -inf where they are not in the problem, as a row of a matrix: this and the row's number."""
    if mask is None:
        return scores, row
    for position in range(scores.shape[1]):
        buffer[0, position] = scores[row, position] if mask[row, position] else -np.inf
    return buffer, 0


@compiled
def _measure(problem, problem_row):
    """The row's maximum, and whether it has a solution: it has none with NaN or +inf in it."""
    num_unusable = 0
    for position in range(problem.shape[1]):
        num_unusable += 0 if problem[problem_row, position] < np.inf else 1
    return np.float64(_maximum(problem, problem_row)), num_unusable == 0


@vectorized
def _maximum(problem, problem_row):
    maximum = problem[problem_row, 0]
    for position in range(1, problem.shape[1]):
        score = problem[problem_row, position]
        maximum = score if score > maximum else maximum
    return maximum


@compiled
def _fail(problem, problem_row, weights, blocks, row):
    """The answer for a row that has no solution: NaN at every position that is in the problem."""
    for position in range(problem.shape[1]):
        is_included = problem[problem_row, position] != -np.inf
        weights[row, position] = np.nan if is_included else 0.0
        if blocks is not None:
            blocks[row, position] = -1 if is_included else 0


@compiled
def _gather(problem, problem_row, row, maximum, gamma, bound, values, positions, ranks, weights):
    """
    Copy the values (x - max x) / gamma that are above `bound` to the front of `values`, where they came from to
    `positions`, and how many of the problem's scores stand before each to `ranks`; fill `weights` with 0. Returns how
    many values there are, and how many scores the problem has.
    """
    limit = maximum + gamma * bound
    limit -= 1e-9 * (abs(maximum) - gamma * bound)  # a few candidates too many do no harm, one too few does
    limit = max(limit, -1.7976931348623157e308)  # not -inf, which is not in the problem
    count = 0
    rank = 0
    for position in range(problem.shape[1]):
        score = problem[problem_row, position]
        values[count] = score - maximum
        positions[count] = position
        ranks[count] = rank
        weights[row, position] = 0.0
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
def sparsemax_numpy(scores, mask, gamma, weights):
    num_rows, length = scores.shape
    buffer = np.empty((1, length), scores.dtype)
    values = np.empty(length, np.float64)
    for row in range(num_rows):
        problem, problem_row = _problem(scores, mask, row, buffer)
        maximum, has_solution = _measure(problem, problem_row)
        if not has_solution:
            _fail(problem, problem_row, weights, None, row)
            continue
        if maximum == -np.inf:
            weights[row, :] = 0.0
            continue
        for position in range(length):
            value = (problem[problem_row, position] - maximum) / gamma
            values[position] = value if value > -2.0 else -2.0  # the weight of a value down there is 0
        threshold = _simplex_threshold(values, length)
        for position in range(length):
            value = values[position] - threshold
            weights[row, position] = value if value > 0.0 else 0.0


@compiled
def fusedmax_numpy(scores, mask, gamma, lams, weights, blocks):
    num_rows, length = scores.shape
    buffer = np.empty((1, length), scores.dtype)
    values = np.empty(length + 1, np.float64)
    positions = np.empty(length + 1, np.int64)
    ranks = np.empty(length + 1, np.int64)
    run_starts = np.empty(length + 1, np.int64)
    first = np.empty(length + 1, np.int64)
    lower = np.empty(length, np.float64)
    upper = np.empty(length, np.float64)
    knots = np.empty((3, 2 * length), np.float64)
    blocks[:] = 0
    for row in range(num_rows):
        lam = lams[row if lams.size > 1 else 0]
        problem, problem_row = _problem(scores, mask, row, buffer)
        maximum, has_solution = _measure(problem, problem_row)
        if not has_solution or not 0.0 <= lam < np.inf:
            _fail(problem, problem_row, weights, blocks, row)
            continue
        lam = min(lam, LARGEST_LAM)
        # A score below this bound has weight 0, and no weight changes if it is lowered to minus infinity: the runs
        # between such scores are problems of their own. The lowered neighbours pull a run's ends down, by lam each.
        bound = -1.0 - 4.0 * lam
        count, num_included = _gather(
            problem, problem_row, row, maximum, gamma, bound, values, positions, ranks, weights
        )
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
                start, end = run_starts[run], run_starts[run + 1]
                if end == start + 2:
                    _fuse_two(values, start, lam, first)
                elif end > start + 2:
                    _fuse(values, start, end, lam, first, lower, upper, knots)
        highest = values[0]
        for k in range(1, count):
            highest = values[k] if values[k] > highest else highest
        for k in range(count):
            values[k] -= highest
        threshold = _simplex_threshold(values, count)
        for k in range(count):
            value = values[k] - threshold
            weights[row, positions[k]] = value if value > 0.0 else 0.0
            blocks[row, positions[k]] = first[k] + 1 if value > 0.0 else 0


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


def oscarmax_numpy(scores, mask, gamma, lams, weights, blocks):
    negatives = np.negative(scores, out=_empty_like(scores))
    if mask is not None:
        np.copyto(negatives, np.inf, where=~mask)
    negatives.sort(axis=1)  # numpy's sort is vectorized, which none compiled here is
    _oscarmax_of_sorted(negatives, scores, mask, gamma, lams, weights, blocks)


@compiled
def _oscarmax_of_sorted(negatives, scores, mask, gamma, lams, weights, blocks):
    num_rows, length = scores.shape
    buffer = np.empty((1, length), scores.dtype)
    sums = np.empty(length, np.float64)
    ends = np.empty(length, np.int64)
    limits = np.empty(length, scores.dtype)
    levels = np.empty(length, np.float64)
    for row in range(num_rows):
        lam = lams[row if lams.size > 1 else 0]
        problem, problem_row = _problem(scores, mask, row, buffer)
        maximum, has_solution = _measure(problem, problem_row)
        if not has_solution or not 0.0 <= lam < np.inf:
            _fail(problem, problem_row, weights, blocks, row)
            continue
        lam = min(lam, LARGEST_LAM)
        count = length
        while count > 0 and negatives[row, count - 1] == np.inf:
            count -= 1
        if count == 0:
            weights[row, :] = 0.0
            blocks[row, :] = 0
            continue
        num_groups = _group(negatives, row, count, maximum, gamma, lam, sums, ends)

        # The threshold that makes the sum of max(level - threshold, 0) one. Levels are decreasing, and measured from
        # the first, so that large ones lose no digits.
        total = 0.0
        threshold = -np.inf
        num_supported = 0
        for group in range(num_groups):
            start = ends[group - 1] if group > 0 else 0
            size = ends[group] - start
            level = sums[group] / size - sums[0] / ends[0]
            if level <= threshold:
                break
            total += level * size
            threshold = (total - 1.0) / ends[group]
            levels[group] = level
            limits[group] = -negatives[row, ends[group] - 1]
            num_supported = group + 1

        # Equal scores are in one group, so a score tells its group.
        if num_supported == 1:
            weight = 1.0 / ends[0]
            for position in range(length):
                is_supported = problem[problem_row, position] >= limits[0]
                weights[row, position] = weight if is_supported else 0.0
                blocks[row, position] = is_supported
        else:
            least = limits[num_supported - 1]
            for position in range(length):
                score = problem[problem_row, position]
                if score >= least:
                    group = _first_reached(limits, num_supported, score)
                    weights[row, position] = levels[group] - threshold
                    blocks[row, position] = group + 1
                else:
                    weights[row, position] = 0.0
                    blocks[row, position] = 0
        if lam == 0.0:  # then equal scores are not drawn together: each is a block of its own
            for position in range(length):
                blocks[row, position] = position + 1 if weights[row, position] > 0.0 else 0


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
def _group(negatives, row, count, maximum, gamma, lam, sums, ends):
    """
    The non-increasing isotonic regression of v[k] - lam * (count - 1 - k), v the values in decreasing order, by
    pooling adjacent violators. Fills the groups' sums and ends, and returns their number.
    """
    bound = -1.0 - lam * (count - 1)  # the weight of a value down there is 0
    num_groups = 0
    start = 0  # of the last group, which is kept here
    total = -lam * (count - 1)
    for k in range(1, count):
        value = (-negatives[row, k] - maximum) / gamma
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
def support_jacobian_numpy(vector, weights, gamma, product):
    num_rows, length = vector.shape
    positions = np.empty(length + 1, np.int64)
    for row in range(num_rows):
        count = 0
        for position in range(length):
            positions[count] = position
            count += weights[row, position] != 0.0  # NaN, in a row that has no solution, counts
            product[row, position] = 0.0
        total = 0.0
        for k in range(count):
            total += vector[row, positions[k]]
        if count > 0 and np.isnan(weights[row, positions[0]]):
            total = np.nan
        mean = total / count
        for k in range(count):
            product[row, positions[k]] = (vector[row, positions[k]] - mean) / gamma


@compiled
def block_jacobian_numpy(vector, blocks, gamma, product):
    num_rows, length = vector.shape
    positions = np.empty(length + 1, np.int64)
    sums = np.empty(2 * length + 2, np.float64)  # as far as the GPU's kernels number blocks
    sizes = np.empty(2 * length + 2, np.int64)
    for row in range(num_rows):
        count = 0
        highest = 0
        lowest = 2 * length
        for position in range(length):
            block = blocks[row, position]
            positions[count] = position
            count += block != 0
            highest = block if block > highest else highest
            lowest = block if block != 0 and block < lowest else lowest
            product[row, position] = 0.0
        if lowest >= highest:  # one block, whose mean is that of the support, or none
            continue
        if lowest < 0:
            for k in range(count):
                product[row, positions[k]] = np.nan
            continue
        for block in range(lowest, highest + 1):
            sums[block] = 0.0
            sizes[block] = 0
        total = 0.0
        for k in range(count):
            value = np.float64(vector[row, positions[k]])
            sums[blocks[row, positions[k]]] += value
            sizes[blocks[row, positions[k]]] += 1
            total += value
        mean = total / count
        for k in range(count):
            block = blocks[row, positions[k]]
            product[row, positions[k]] = (sums[block] / sizes[block] - mean) / gamma


def _run(solver: Callable, *arrays: Any) -> None:
    """
    Call `solver` with the arrays, and numbers, given. The rows are shared among threads where that pays; what has one
    entry only is for all rows.
    """
    num_rows, length = arrays[0].shape
    if num_rows * length == 0:
        return
    num_threads = min(torch.get_num_threads(), num_rows, num_rows * length // SCORES_PER_THREAD)
    if num_threads < 2:
        solver(*arrays)
        return
    bounds = [num_rows * part // num_threads for part in range(num_threads + 1)]
    parts = [
        [array[start:end] if isinstance(array, np.ndarray) and len(array) == num_rows else array for array in arrays]
        for start, end in pairwise(bounds)
    ]
    threads = [threading.Thread(target=solver, args=part) for part in parts[1:]]
    for thread in threads:
        thread.start()
    solver(*parts[0])
    for thread in threads:
        thread.join()


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


def sparsemax_rows(scores: Tensor, mask: Tensor | None, gamma: float) -> Tensor:
    array = _to_numpy(scores)
    weights = _empty_like(array)
    _run(sparsemax_numpy, array, None if mask is None else _to_numpy(mask), float(gamma), weights)
    return _to_tensor(weights, scores)


def fusedmax_rows(
    scores: Tensor, mask: Tensor | None, gamma: float, lam: float, lams: Tensor | None
) -> tuple[Tensor, Tensor]:
    return _solve_with_lam(fusedmax_numpy, scores, mask, gamma, lam, lams)


def oscarmax_rows(
    scores: Tensor, mask: Tensor | None, gamma: float, lam: float, lams: Tensor | None
) -> tuple[Tensor, Tensor]:
    return _solve_with_lam(oscarmax_numpy, scores, mask, gamma, lam, lams)


def _solve_with_lam(
    solver: Callable, scores: Tensor, mask: Tensor | None, gamma: float, lam: float, lams: Tensor | None
) -> tuple[Tensor, Tensor]:
    array = _to_numpy(scores)
    weights = _empty_like(array)
    blocks = _empty_like(array, torch.int32)
    by_row = np.array([lam], np.float64) if lams is None else _to_numpy(lams.double())
    _run(solver, array, None if mask is None else _to_numpy(mask), float(gamma), by_row, weights, blocks)
    return _to_tensor(weights, scores), torch.from_numpy(blocks).to(scores.device)


def support_jacobian_rows(vector: Tensor, weights: Tensor, gamma: float) -> Tensor:
    return _multiply(support_jacobian_numpy, vector, weights, gamma)


def block_jacobian_rows(vector: Tensor, blocks: Tensor, gamma: float) -> Tensor:
    return _multiply(block_jacobian_numpy, vector, blocks, gamma)


def _multiply(jacobian: Callable, vector: Tensor, blocks: Tensor, gamma: float) -> Tensor:
    array = _to_numpy(vector)
    product = _empty_like(array)
    _run(jacobian, array, _to_numpy(blocks), float(gamma), product)
    return _to_tensor(product, vector)
