"""
The losses of class indices on the CPU, for operators that are `entmax` with alpha 1, 1.5 or 2: softmax, entmax,
sparsemax. One reading of a row's scores gives its loss, another its gradient; in between a few numbers are kept for
each row, and nothing as large as the scores is made but the gradient.

All is computed in float64, from v = (x - max x) / gamma. Above alpha = 1 a score gamma / (alpha - 1) or more below
the maximum has weight 0. Of most scores that is known by the maximum of a few that they are one of.
"""

import numpy as np
import torch
from torch import Tensor

from regattn_allennlp.operators.kernels.cpu import (
    SCORES_PER_THREAD,
    _empty_like,
    _exponential,
    _share_rows,
    _simplex_threshold,
    _square_threshold,
    _sums_of_powers,
    _to_numpy,
    _to_tensor,
    compiled,
    vectorized,
)

# A row is cut into so many segments, one laid on the other, so that as many scores stand in each column. Only columns
# in which one may have weight are read again. And loops over columns are vectorized, which one for a maximum is not.
NUM_SEGMENTS = 16


@compiled
def _problem(scores, mask, row, buffer):
    """The row's scores, -inf where they are not in the problem, as a row of a matrix: this and the row's number."""
    if mask is None:
        return scores, row
    for position in range(scores.shape[1]):
        buffer[0, position] = scores[row, position] if mask[row, position] else -np.inf
    return buffer, 0


@compiled
def _measure_columns(problem, problem_row, maxima, unusable):
    """The maximum of each column; that of the row, and whether it has a solution: none with NaN or +inf in it."""
    num_columns = maxima.size
    maxima[:] = -np.inf
    unusable[:] = 0.0
    for start in range(0, problem.shape[1], num_columns):
        for column in range(min(num_columns, problem.shape[1] - start)):
            score = problem[problem_row, start + column]
            maxima[column] = score if score > maxima[column] else maxima[column]
            unusable[column] = unusable[column] if score < np.inf else 1.0
    maximum = -np.inf
    num_unusable = 0.0
    for column in range(num_columns):
        maximum = max(maximum, np.float64(maxima[column]))
        num_unusable += unusable[column]
    return maximum, num_unusable == 0.0


@compiled
def _gather_candidates(problem, problem_row, maxima, maximum, gamma, bound, values):
    """Copy the values (x - max x) / gamma above `bound`, and perhaps some below, to `values`; returns their number."""
    limit = maximum + gamma * bound
    limit -= 1e-9 * (abs(maximum) - gamma * bound)  # a few candidates too many do no harm, one too few does
    limit = max(limit, -1.7976931348623157e308)  # not -inf, which is not in the problem
    count = 0
    for column in range(maxima.size):
        if maxima[column] >= limit:
            for position in range(column, problem.shape[1], maxima.size):
                score = np.float64(problem[problem_row, position])
                values[count] = score - maximum
                count += score >= limit
    for k in range(count):
        value = values[k] / gamma
        values[k] = value if value > bound - 1.0 else bound - 1.0
    return count


@vectorized
def _sum_of_exponentials(problem, problem_row, maximum, gamma):
    total = 0.0
    for position in range(problem.shape[1]):
        total += _exponential((problem[problem_row, position] - maximum) / gamma)
    return total


@vectorized
def _sparsemax_value(values, count, threshold):
    """sum(p * v) - 1/2 (sum(p^2) - 1)."""
    total = 0.5
    for k in range(count):
        weight = max(values[k] - threshold, 0.0)
        total += weight * (values[k] - weight / 2.0)
    return total


@compiled
def _solve(problem, problem_row, maxima, maximum, gamma, alpha, values):
    """
    The threshold, which with the maximum tells all weights; and max_Omega(v), Omega being 0 where one class has all
    the weight. (A constant in Omega does not change the loss.)
    """
    if alpha == 1.0:
        threshold = np.log(_sum_of_exponentials(problem, problem_row, maximum, gamma))
        return threshold, threshold
    count = _gather_candidates(problem, problem_row, maxima, maximum, gamma, -1.0 / (alpha - 1.0), values)
    if alpha == 2.0:
        threshold = _simplex_threshold(values, count)
        return threshold, _sparsemax_value(values, count, threshold)
    threshold = _square_threshold(values, count)
    # With r = max(v / 2 - t, 0) and p = r^2: sum(p * v) = 2 sum(r^3) + 2 t, and Omega = 4/3 (sum(r^3) - 1).
    _, _, cubes = _sums_of_powers(values, count, threshold)
    return threshold, 2.0 / 3.0 * cubes + 2.0 * threshold + 4.0 / 3.0


@vectorized
def _write_weights(problem, problem_row, maximum, threshold, gamma, alpha, factor, product, row):
    """The weights times a factor."""
    if alpha == 1.0:
        for position in range(problem.shape[1]):
            value = (problem[problem_row, position] - maximum) / gamma
            product[row, position] = factor * _exponential(value - threshold)
    elif alpha == 2.0:
        for position in range(problem.shape[1]):
            weight = max((problem[problem_row, position] - maximum) / gamma - threshold, 0.0)
            product[row, position] = factor * weight
    else:
        for position in range(problem.shape[1]):
            root = max((problem[problem_row, position] - maximum) / gamma / 2.0 - threshold, 0.0)
            product[row, position] = factor * root * root


@vectorized
def _total_class_weight(problem, problem_row, class_weights):
    """Of the classes in the problem; and their number."""
    total = 0.0
    count = 0.0
    for position in range(problem.shape[1]):
        is_included = problem[problem_row, position] != -np.inf
        total += class_weights[position] if is_included else 0.0
        count += 1.0 if is_included else 0.0
    return total, count


@vectorized
def _weighted_sum(problem, problem_row, maximum, class_weights, share):
    """Of the scores above the maximum, which are 0 or below, each times its class's weight and the share."""
    total = 0.0
    for position in range(problem.shape[1]):
        score = problem[problem_row, position]
        fall = score - maximum if score != -np.inf else 0.0
        total += share * class_weights[position] * fall
    return total


@vectorized
def _subtract_class_weights(problem, problem_row, class_weights, factor, product, row):
    for position in range(problem.shape[1]):
        is_included = problem[problem_row, position] != -np.inf
        product[row, position] -= factor * class_weights[position] if is_included else 0.0


@compiled
def losses_numpy(
    first_row,
    end_row,
    scores,
    mask,
    targets,
    target_weights,
    class_weights,
    smoothing,
    gamma,
    alpha,
    losses,
    summaries,
):
    length = scores.shape[1]
    buffer = np.empty((1, length), scores.dtype)
    maxima = np.empty((length + NUM_SEGMENTS - 1) // NUM_SEGMENTS, scores.dtype)
    unusable = np.empty_like(maxima)
    values = np.empty(length + 1, np.float64)
    for row in range(first_row, end_row):
        target = targets[row]
        if target < 0:
            continue
        problem, problem_row = _problem(scores, mask, row, buffer)
        maximum, has_solution = _measure_columns(problem, problem_row, maxima, unusable)
        if not has_solution:
            losses[row] = np.nan
            summaries[row, :] = np.nan
            continue
        if maximum == -np.inf:
            continue
        threshold, value = _solve(problem, problem_row, maxima, maximum, gamma, alpha, values)
        weight = target_weights[row]
        total, share, loss = weight, 0.0, 0.0
        if smoothing > 0.0:
            total_class_weight, count = _total_class_weight(problem, problem_row, class_weights)
            share = smoothing / count
            total += share * total_class_weight
            loss -= _weighted_sum(problem, problem_row, maximum, class_weights, share)
        if weight > 0.0 and problem[problem_row, target] != -np.inf:
            loss -= weight * (problem[problem_row, target] - maximum)
        losses[row] = max(loss + total * gamma * value, 0.0)  # not below 0 by a rounding error
        summaries[row, 0] = maximum
        summaries[row, 1] = threshold
        summaries[row, 2] = total
        summaries[row, 3] = share


@compiled
def loss_gradients_numpy(
    first_row,
    end_row,
    scores,
    mask,
    targets,
    target_weights,
    class_weights,
    gamma,
    alpha,
    summaries,
    upstream,
    gradient,
):
    length = scores.shape[1]
    buffer = np.empty((1, length), scores.dtype)
    for row in range(first_row, end_row):
        maximum, threshold, total, share = summaries[row]
        if maximum == -np.inf:
            gradient[row, :] = 0.0
            continue
        problem, problem_row = _problem(scores, mask, row, buffer)
        if np.isnan(maximum):
            for position in range(length):
                gradient[row, position] = 0.0 if problem[problem_row, position] == -np.inf else np.nan
            continue
        factor = np.float64(upstream[row])
        _write_weights(problem, problem_row, maximum, threshold, gamma, alpha, factor * total, gradient, row)
        if share > 0.0:
            _subtract_class_weights(problem, problem_row, class_weights, factor * share, gradient, row)
        target = targets[row]
        if problem[problem_row, target] != -np.inf:
            gradient[row, target] -= factor * target_weights[row]


def loss_rows(
    scores: Tensor,
    mask: Tensor | None,
    targets: Tensor,
    target_weights: Tensor,
    class_weights: Tensor | None,
    smoothing: float,
    gamma: float,
    alpha: float,
) -> tuple[Tensor, Tensor]:
    """
    The losses of the rows, 0 or above, and for `loss_gradient_rows` what it has to know of them. With p the weights,

        b * L(x; target) + (smoothing / n) * sum_k w_k * L(x; k),   L(x; k) the loss of the index k,

    the sum over the n classes in the problem. If the target is not one of them its score counts as the largest.

    # Parameters

    scores : contiguous, (num_rows, num_classes). mask : bool, the same, or None.
    targets : int64, (num_rows,). Below 0 the row is not looked at: loss and gradient are 0.
    target_weights : b of each row. class_weights : w, (num_classes,), or None for ones.
    alpha : 1, 1.5 or 2.

    # Returns

    The losses and the summaries, both float64 and of (num_rows, ...). A row's summary is: the largest score, -inf if
    there is nothing in the problem, NaN if there is no solution; the threshold; the sum of b and all
    (smoothing / n) * w_k; and smoothing / n.
    """
    losses = np.zeros(len(scores))
    summaries = np.full((len(scores), 4), -np.inf)  # of rows that are not looked at, or have no classes
    _share_rows(
        losses_numpy,
        len(scores),
        scores.numel() // SCORES_PER_THREAD,
        _to_numpy(scores),
        None if mask is None else _to_numpy(mask),
        _to_numpy(targets),
        _to_numpy(target_weights.double()),
        _class_weights(scores, class_weights),
        float(smoothing),
        float(gamma),
        float(alpha),
        losses,
        summaries,
    )
    return torch.from_numpy(losses), torch.from_numpy(summaries)


def loss_gradient_rows(
    scores: Tensor,
    mask: Tensor | None,
    targets: Tensor,
    target_weights: Tensor,
    class_weights: Tensor | None,
    gamma: float,
    alpha: float,
    summaries: Tensor,
    upstream: Tensor,
) -> Tensor:
    """The gradient of the losses times `upstream`, of (num_rows,), in the shape and dtype of the scores."""
    array = _to_numpy(scores)
    gradient = _empty_like(array)
    _share_rows(
        loss_gradients_numpy,
        len(scores),
        scores.numel() // SCORES_PER_THREAD,
        array,
        None if mask is None else _to_numpy(mask),
        _to_numpy(targets),
        _to_numpy(target_weights.double()),
        _class_weights(scores, class_weights),
        float(gamma),
        float(alpha),
        _to_numpy(summaries),
        _to_numpy(upstream.double()),
        gradient,
    )
    return _to_tensor(gradient, scores)


def _class_weights(scores: Tensor, class_weights: Tensor | None) -> np.ndarray:
    return np.ones(scores.size(1)) if class_weights is None else _to_numpy(class_weights.double())
