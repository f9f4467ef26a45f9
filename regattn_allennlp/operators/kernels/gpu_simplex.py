"""
The kernels for the GPU of sparsemax, entmax, squared p-norm max and normmax, and of their Jacobians.

Each of these needs one number for a row, and the number is found by Newton's method: every step takes a few sums over
the row. A row of up to MAX_LENGTH positions stays in registers meanwhile. Of a longer one every sum loads the row
anew, piece by piece. All else is the same: what a function calls `values` are those in registers, and the arguments
`scores` to `inverse_gamma` are where pieces come from. A row for which nothing is to be done has -inf for `values` and
the length 0.

Each `METHOD` is a rule for the weights. With a = alpha - 1:

    softmax    exp(v), over their sum                  a = 0
    squares    max(c + v / 2, 0)^2                     a = 1/2
    linear     max(c + v, 0)                           a = 1: sparsemax
    powers     max(c + a * v, 0)^(1 / a)               0 <= a <= 1
    roots      the same                                a >= 1
    any        the same                                a >= 0
    square     max(m + v, 0)^(d - 1), over their sum   squared p-norm max; 1 / d = 1 - 1 / exponent, and a = d - 1
    norm       the same, with another m                normmax
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from regattn_allennlp.operators.kernels.gpu_tiles import (
    Problems,
    _as_tile,
    _load,
    _load_number,
    _load_problem,
    _load_scores,
    _num_problems,
    _scaled,
    _store,
    _tile,
    compute_type,
    inverse,
    launch_tiles,
)

# a divides. This stands for 0: all results are the same, for float32 too, and nothing overflows.
LEAST_ORDER = tl.constexpr(1e-30)

# A number above 0 of which no power is needed below float32's range.
TINY = tl.constexpr(1e-37)


@triton.jit
def _log1p(x):
    """log(1 + x) for x > -1, exact near 0: what rounding makes of 1 + x, the quotient takes back."""
    rounded = 1 + x
    change = rounded - 1
    return tl.where(change == 0, x, tl.log(rounded) * (x / tl.where(change == 0, 1, change)))


@triton.jit
def _expm1(x):
    """exp(x) - 1 for x <= 0, exact near 0, in the same way."""
    rounded = tl.exp(x)
    logarithm = tl.log(tl.maximum(rounded, TINY))
    quotient = (rounded - 1) * (x / tl.where(logarithm == 0, 1, logarithm))
    return tl.where(logarithm == 0, x, tl.where(x < -30, -1, quotient))


@triton.jit
def _terms(values, order, state, smallest, METHOD: tl.constexpr):
    """
    What is summed over a row, two or three terms. Mostly these are the weights for the present state, and their
    derivatives by it, but for a factor that the whole row shares.
    """
    if METHOD == "softmax":
        weights = tl.exp(values)
        return weights, weights, weights
    elif METHOD == "linear":
        roots = tl.maximum(state + values, 0)
        return roots, (roots > 0).to(values.dtype), roots
    elif METHOD == "squares":
        roots = tl.maximum(state + values * 0.5, 0)
        return roots * roots, roots, roots
    elif METHOD == "powers":
        # The state is log(c) / a, the logarithm of the largest weight: no digits are lost for any a.
        top = tl.maximum(tl.exp(order * state), TINY)
        falls = tl.maximum(values * (order / top), -1)
        above = falls > -1
        falls = tl.where(above, falls, 0)
        weights = tl.where(above, tl.exp(state + _log1p(falls) * (1 / order)), 0)
        return weights, weights / (1 + falls), weights
    elif METHOD == "square" or METHOD == "norm":
        # The state is log(m).
        falls = tl.maximum(values * tl.exp(-state), -1)
        above = falls > -1
        falls = tl.where(above, falls, 0)
        powers = tl.where(above, tl.exp(_log1p(falls) * order), 0)
        return powers, -falls * powers, -falls * powers / (1 + falls)
    elif METHOD == "rises":
        # What the values above `smallest` take of 1 at least.
        rises = order * (values - smallest)
        above = rises > 0
        weights = tl.where(above, tl.exp(tl.log(tl.where(above, rises, 1)) / order), 0)
        return weights, weights, weights
    else:  # roots: the state is the smallest weight
        rises = order * (values - smallest)
        above = rises > 0
        power = tl.exp(order * tl.log(tl.maximum(state, TINY)))
        powers = power + tl.where(above, rises, 1)
        larger = tl.exp(tl.log(powers) / order)
        weights = tl.where(above, larger, tl.where(rises == 0, state, 0))
        slopes = power / tl.maximum(state, TINY) * (larger / powers)
        return weights, tl.where(above, slopes, (rises == 0).to(values.dtype)), weights


@triton.jit
def _load_piece(
    first, scores, mask, starts, lengths, maximum, inverse_gamma, DTYPE: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """v from position `first` on; the scores that are in the problem; where these are, and whether they exist."""
    positions = first + tl.arange(0, BLOCK)[None, :]
    exists = positions < lengths
    piece = _load_scores(scores, mask, starts + positions, exists, DTYPE)
    return _scaled(piece, maximum, inverse_gamma, DTYPE), piece, starts + positions, exists


@triton.jit
def _tile_sums(values, order, state, smallest, METHOD: tl.constexpr):
    first, second, third = _terms(values, order, state, smallest, METHOD)
    first = tl.sum(first, axis=1, keep_dims=True)
    if METHOD == "softmax" or METHOD == "rises":
        return first, first, first
    else:
        second = tl.sum(second, axis=1, keep_dims=True)
        return first, second, tl.sum(third, axis=1, keep_dims=True) if METHOD == "square" else second


@triton.jit
def _sums(
    values, scores, mask, starts, lengths, maximum, inverse_gamma, order, state, smallest,
    DTYPE: tl.constexpr, BLOCK: tl.constexpr, METHOD: tl.constexpr, LONG: tl.constexpr,
):  # fmt: skip
    """The sums of `_terms`."""
    if LONG:
        first = tl.zeros([1, 1], DTYPE)
        second = tl.zeros([1, 1], DTYPE)
        third = tl.zeros([1, 1], DTYPE)
        for position in range(0, tl.max(lengths), BLOCK):
            piece, _, _, _ = _load_piece(
                position, scores, mask, starts, lengths, maximum, inverse_gamma, DTYPE, BLOCK
            )  # fmt: skip
            more_of_first, more_of_second, more_of_third = _tile_sums(piece, order, state, smallest, METHOD)
            first += more_of_first
            second += more_of_second
            third += more_of_third
        return first, second, third
    else:
        return _tile_sums(values, order, state, smallest, METHOD)


@triton.jit
def _tile_range(values, low, high):
    inside = (values > low) & (values < high)
    least = tl.min(tl.where(inside, values, float("inf")), axis=1, keep_dims=True)
    return least, tl.max(tl.where(inside, values, float("-inf")), axis=1, keep_dims=True)


@triton.jit
def _range(
    values, scores, mask, starts, lengths, maximum, inverse_gamma, low, high,
    DTYPE: tl.constexpr, BLOCK: tl.constexpr, LONG: tl.constexpr,
):  # fmt: skip
    """The least and the greatest of the values between `low` and `high`; inf and -inf if there are none."""
    if LONG:
        least = tl.full([1, 1], float("inf"), DTYPE)
        greatest = tl.full([1, 1], float("-inf"), DTYPE)
        for position in range(0, tl.max(lengths), BLOCK):
            piece, _, _, _ = _load_piece(
                position, scores, mask, starts, lengths, maximum, inverse_gamma, DTYPE, BLOCK
            )  # fmt: skip
            least_here, greatest_here = _tile_range(piece, low, high)
            least = tl.minimum(least, least_here)
            greatest = tl.maximum(greatest, greatest_here)
        return least, greatest
    else:
        return _tile_range(values, low, high)


@triton.jit
def _from_the_largest(
    values, scores, mask, starts, lengths, maximum, inverse_gamma, order,
    DTYPE: tl.constexpr, BLOCK: tl.constexpr, METHOD: tl.constexpr, LONG: tl.constexpr,
):  # fmt: skip
    """
    For a <= 1: the state, and by how much of their derivative the weights still have to grow. With c = (largest
    weight)^a, h(c) = ||p||_1^a is the (1 / a)-norm of max(c + a * v, 0), so it is convex; Newton's method comes down
    on h(c) = 1 from c = 1, where h is not less, and stops where rounding lets it fall no more.
    """
    # What is left over here, the last step shares. (Linear weights end abruptly: there it is not to be guessed where.)
    MARGIN: tl.constexpr = 0 if METHOD == "linear" else 4e-15 if tl.float64 == DTYPE else 1e-6
    state = tl.zeros_like(order)
    if METHOD == "linear" or METHOD == "squares":
        state = state + 1  # not a logarithm
    total, slope, _ = _sums(
        values, scores, mask, starts, lengths, maximum, inverse_gamma, order, state, state, DTYPE, BLOCK, METHOD, LONG
    )  # fmt: skip
    improving = total > 1 + MARGIN
    while tl.max(improving.to(tl.int32)) > 0:
        if METHOD == "linear":
            following = state - (total - 1) / tl.maximum(slope, 1)
        elif METHOD == "squares":
            following = state - (total - tl.sqrt(total)) / tl.maximum(slope, TINY)
        else:
            excess = tl.maximum(total, 1)
            step = -excess * _expm1(-order * tl.log(excess)) / tl.maximum(slope, TINY)  # by which c falls, over c
            following = state + _log1p(-tl.minimum(step, 0.999)) * (1 / order)
        improving = improving & (following < state)
        state = tl.where(improving, following, state)
        total, slope, _ = _sums(
            values, scores, mask, starts, lengths, maximum, inverse_gamma, order, state, state,
            DTYPE, BLOCK, METHOD, LONG,
        )  # fmt: skip
        improving = improving & (total > 1 + MARGIN)
    return state, tl.where(total > 0, (1 - total) / tl.maximum(slope, TINY), 0)


@triton.jit
def _from_the_smallest(
    values, scores, mask, starts, lengths, maximum, inverse_gamma, order,
    DTYPE: tl.constexpr, BLOCK: tl.constexpr, LONG: tl.constexpr,
):  # fmt: skip
    """
    For a >= 1: the smallest weight, and the v that has it. A root makes small weights of tiny differences, so they
    may not come from larger numbers. With p_k the smallest weight above 0 all terms of
    p_i = (p_k^a + a * (v_i - v_k))^(1 / a) are 0 or above.

    A value v_k is in the support if the larger ones leave something of 1: sum_i (a * max(v_i - v_k, 0))^(1 / a) < 1.
    Lower values leave less. Those not yet told are halved, not by their number but on a logarithmic scale. Then p_k is
    where the sum of all weights is 1. That is convex, with a slope of 1 or more, and Newton's method comes down on it.
    """
    # From `supported` on a value is in the support, and up to `excluded` it is not.
    supported = tl.zeros_like(order)
    excluded = -1 / order
    least, greatest = _range(
        values, scores, mask, starts, lengths, maximum, inverse_gamma, excluded, supported, DTYPE, BLOCK, LONG
    )  # fmt: skip
    while tl.max(greatest) > float("-inf"):
        searching = greatest > float("-inf")
        low = tl.where(searching, least, -1)
        high = tl.where(searching, greatest, -1)
        middle = tl.minimum(tl.maximum(-tl.sqrt(-low) * tl.sqrt(-high), low), high)
        taken, _, _ = _sums(
            values, scores, mask, starts, lengths, maximum, inverse_gamma, order, middle, middle,
            DTYPE, BLOCK, "rises", LONG,
        )  # fmt: skip
        supported = tl.where(searching & (taken < 1), middle, supported)
        excluded = tl.where(searching & ~(taken < 1), middle, excluded)
        least, greatest = _range(
            values, scores, mask, starts, lengths, maximum, inverse_gamma, excluded, supported, DTYPE, BLOCK, LONG
        )  # fmt: skip
    smallest, _ = _range(
        values, scores, mask, starts, lengths, maximum, inverse_gamma, excluded, tl.full([1, 1], 1, DTYPE),
        DTYPE, BLOCK, LONG,
    )  # fmt: skip

    MARGIN: tl.constexpr = 1e-15  # below it, the sum rounds again and again to more than 1
    state = tl.zeros_like(order) + 1
    total, slope, _ = _sums(
        values, scores, mask, starts, lengths, maximum, inverse_gamma, order, state, smallest,
        DTYPE, BLOCK, "roots", LONG,
    )  # fmt: skip
    improving = total > 1 + MARGIN
    while tl.max(improving.to(tl.int32)) > 0:
        following = tl.maximum(state - (total - 1) / tl.maximum(slope, 1), 0)
        improving = improving & (following < state)
        state = tl.where(improving, following, state)
        total, slope, _ = _sums(
            values, scores, mask, starts, lengths, maximum, inverse_gamma, order, state, smallest,
            DTYPE, BLOCK, "roots", LONG,
        )  # fmt: skip
        improving = improving & (total > 1 + MARGIN)
    return state, smallest


@triton.jit
def _from_the_norm(
    values, scores, mask, starts, lengths, maximum, inverse_gamma, order,
    DTYPE: tl.constexpr, BLOCK: tl.constexpr, METHOD: tl.constexpr, LONG: tl.constexpr,
):  # fmt: skip
    """
    For the norms: the state, log(m), and the sum of the powers. With b = max(1 + v / m, 0) the weights of squared
    p-norm max sum to 1 where

        g(log m) = log m + log sum b^(d - 1) - (d - 2) / d * log sum b^d

    is 0, and those of normmax solve the problem where log m + log sum b^d / d is 0, so that ||max(m + v, 0)||_d = 1.
    Neither is convex or concave, but their slopes are 1 or more, and between log m = 0 and -2 / d * log n they have
    their zeros. A step of Newton's method is taken if it stays between the numbers known to be below and above, and is
    at most half the step before; else a step is to their middle. So the steps, or what is between, are halved again
    and again.
    """
    dual = order + 1
    high = tl.zeros_like(order)
    low = -2 / dual * tl.log(tl.maximum(lengths, 1).to(DTYPE))
    state = high
    step = high - low
    improving = step > 0
    powers, falls, falls_over_ratios = _sums(
        values, scores, mask, starts, lengths, maximum, inverse_gamma, order, state, state, DTYPE, BLOCK, METHOD, LONG
    )  # fmt: skip
    while tl.max(improving.to(tl.int32)) > 0:
        total = tl.maximum(powers, 1)  # that of the largest is 1
        of_dual = tl.maximum(powers - falls, 1)
        if METHOD == "norm":
            value = state + tl.log(of_dual) / dual
            slope = 1 + falls / of_dual
        else:
            value = state + tl.log(total) - (dual - 2) / dual * tl.log(of_dual)
            # What cancels for a large d is left out beforehand: sum b^(d - 2) - sum b^(d - 1), and so on.
            slope = 1 + order * (falls_over_ratios / total) - (dual - 2) * (falls / of_dual)
        high = tl.where(value >= 0, state, high)
        low = tl.where(value <= 0, state, low)
        following = state - value / tl.maximum(slope, 1)
        usable = (following >= low) & (following <= high) & (tl.abs(following - state) <= step / 2)
        following = tl.where(usable, following, (low + high) / 2)
        step = tl.abs(following - state)
        state = tl.where(improving, following, state)
        improving = improving & (step > (4e-16 if tl.float64 == DTYPE else 2e-7))
        powers, falls, falls_over_ratios = _sums(
            values, scores, mask, starts, lengths, maximum, inverse_gamma, order, state, state,
            DTYPE, BLOCK, METHOD, LONG,
        )  # fmt: skip
    return state, powers


@triton.jit
def _solution(values, order, state, other, METHOD: tl.constexpr):
    """The weights; `other` is what the functions above return with the state."""
    if METHOD == "any":
        below = _solution_by(values, tl.minimum(order, 1), state, other, "powers")
        return tl.where(order > 1, _solution_by(values, order, state, other, "roots"), below)
    else:
        return _solution_by(values, order, state, other, METHOD)


@triton.jit
def _solution_by(values, order, state, other, METHOD: tl.constexpr):
    weights, slopes, _ = _terms(values, order, state, other, METHOD)
    if METHOD == "softmax" or (METHOD == "square" or METHOD == "norm"):  # Triton 3.2 knows no three in a row
        return weights / tl.maximum(other, TINY)
    elif METHOD == "roots":
        return weights
    else:
        return tl.maximum(weights + other * slopes, 0)


@triton.jit(do_not_specialize=["num_copies", "num_rows"])
def _simplex_kernel(
    scores, mask, alphas, weights, inverse_gamma: tl.float64, alpha: tl.float64,
    offsets, buckets, num_copies, num_rows, length,
    DTYPE: tl.constexpr, BUCKET: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, METHOD: tl.constexpr,
    LONG: tl.constexpr,
):  # fmt: skip
    if tl.program_id(0).to(tl.int64) * ROWS >= _num_problems(offsets, buckets, num_copies, num_rows, BUCKET):
        return
    in_range, problems, starts, lengths, exists, positions = _tile(
        offsets, buckets, num_copies, num_rows, length, BUCKET, ROWS, BLOCK
    )
    alpha = _load_number(alphas, alpha, problems, in_range, DTYPE)
    usable = (alpha >= 1) & (alpha < float("inf"))
    order = tl.maximum(tl.where(usable, alpha - 1, 1), LEAST_ORDER)
    if LONG:
        values = tl.full([1, 1], float("-inf"), DTYPE)
        included = values > 0
        maximum = tl.full([1, 1], float("-inf"), DTYPE)
        for first in range(0, tl.max(lengths), BLOCK):
            here = first + positions
            scores_here = _load_scores(scores, mask, starts + here, here < lengths, DTYPE)
            maximum = tl.maximum(maximum, tl.max(scores_here, axis=1, keep_dims=True))
        failed = (maximum == float("inf")) | ~usable
    else:
        values, included, failed, maximum = _load_problem(
            scores, mask, starts + positions, exists, inverse_gamma, DTYPE
        )  # fmt: skip
        failed = failed | ~usable
        values = tl.where(failed, float("-inf"), values)
    solvable = tl.where(failed, 0, lengths)

    if METHOD == "softmax":
        state = tl.zeros_like(order)
        other, _, _ = _sums(
            values, scores, mask, starts, solvable, maximum, inverse_gamma, order, state, state,
            DTYPE, BLOCK, METHOD, LONG,
        )  # fmt: skip
    elif METHOD == "square" or METHOD == "norm":
        state, other = _from_the_norm(
            values, scores, mask, starts, solvable, maximum, inverse_gamma, order, DTYPE, BLOCK, METHOD, LONG
        )  # fmt: skip
    elif METHOD == "roots":
        state, other = _from_the_smallest(
            values, scores, mask, starts, solvable, maximum, inverse_gamma, order, DTYPE, BLOCK, LONG
        )  # fmt: skip
    elif METHOD == "any":
        above = order > 1
        state, other = _from_the_largest(
            tl.where(above, float("-inf"), values), scores, mask, starts, tl.where(above, 0, solvable), maximum,
            inverse_gamma, tl.minimum(order, 1), DTYPE, BLOCK, "powers", LONG,
        )  # fmt: skip
        state_above, other_above = _from_the_smallest(
            tl.where(above, values, float("-inf")), scores, mask, starts, tl.where(above, solvable, 0), maximum,
            inverse_gamma, tl.maximum(order, 1), DTYPE, BLOCK, LONG,
        )  # fmt: skip
        state = tl.where(above, state_above, state)
        other = tl.where(above, other_above, other)
    else:
        state, other = _from_the_largest(
            values, scores, mask, starts, solvable, maximum, inverse_gamma, order, DTYPE, BLOCK, METHOD, LONG
        )  # fmt: skip

    if LONG:
        for first in range(0, tl.max(lengths), BLOCK):
            values_here, piece, places, exists_here = _load_piece(
                first, scores, mask, starts, lengths, maximum, inverse_gamma, DTYPE, BLOCK
            )  # fmt: skip
            solution = _solution(values_here, order, state, other, METHOD)
            solution = tl.where(failed, tl.where(piece > float("-inf"), float("nan"), 0), solution)
            _store(weights, places, solution, exists_here)
    else:
        solution = _solution(values, order, state, other, METHOD)
        solution = tl.where(failed, tl.where(included, float("nan"), 0), solution)
        _store(weights, starts + positions, solution, exists)


# --- Jacobians ---
#
# That of entmax is diag(s) - s s^T / sum(s) with s = p^(2 - alpha) on the support and 0 elsewhere. Those of squared
# p-norm max and normmax are
#
#     K - K 1 (K 1)^T / (1^T K 1),   K = (||p||^(q - 2) * diag(s) - (2 - q) * ||p||^-2 * p p^T) / (q - 1)
#     ||p||^(q - 1) / (q - 1) * (diag(s) - p s^T) (1 - 1 p^T)
#
# with alpha = q in s. Each product is the same for a vector with a constant added. With one subtracted no digits are
# lost in the means: what entmax's vector has where s is largest, which above alpha = 2 may be by 1e20; and the norms'
# mean of the vector weighted with p, which leaves nothing of p^T u. normmax's s is that of the weights over the
# largest, the `unit`, as above q = 2 small ones could overflow, and ||p|| is close to it for a large q.


@triton.jit
def _load_vector(vector, weights, places, exists, order, unit, DTYPE: tl.constexpr, METHOD: tl.constexpr):
    """The vector on the support, else 0; the weights; the logarithm of s, or what there is of it; and s."""
    weight = _load(weights, places, exists, 0, DTYPE)
    supported = weight != 0
    values = tl.where(supported, _load(vector, places, exists, 0, DTYPE), 0)
    logarithm = weight
    if METHOD == "linear":
        s = supported.to(DTYPE)
    elif METHOD == "softmax":
        s = weight
    elif METHOD == "squares":
        s = tl.sqrt(weight)
    else:
        # Above alpha = 2 small weights could overflow.
        logarithm = (1 - order) * tl.log(tl.where(supported, weight / unit if METHOD == "norm" else weight, 1))
        logarithm = tl.where(supported, logarithm, float("-inf"))
        s = tl.exp(tl.minimum(logarithm, 638.0 if tl.float64 == DTYPE else 79.0))
    return values, weight, logarithm, tl.where(supported, s, 0)


@triton.jit
def _tile_stage(values, weight, logarithm, s, unit, pivot, STAGE: tl.constexpr):
    """Up to three numbers of each row; `_stage` joins those of a row's pieces."""
    if STAGE == "largest":
        largest = tl.max(logarithm, axis=1, keep_dims=True)
        return largest, largest, largest
    elif STAGE == "unit":
        largest = tl.max(weight, axis=1, keep_dims=True)
        return largest, largest, largest
    elif STAGE == "pivot":
        there = tl.max(tl.where(logarithm == pivot, values, float("-inf")), axis=1, keep_dims=True)
        return there, there, there
    elif STAGE == "mean":
        total = tl.sum(weight, axis=1, keep_dims=True)
        return total, tl.sum(weight * values, axis=1, keep_dims=True), total
    else:
        total = tl.sum(s, axis=1, keep_dims=True)
        weighted = tl.sum(s * (values - pivot), axis=1, keep_dims=True)
        if STAGE == "norm":  # p^q
            ratio = weight / unit
            powers = ratio * (ratio / tl.where(s != 0, s, 1))
            return total, weighted, tl.sum(powers, axis=1, keep_dims=True)
        else:
            return total, weighted, total


@triton.jit
def _stage(
    values, weight, logarithm, s, vector, weights, starts, lengths, order, unit, pivot,
    DTYPE: tl.constexpr, BLOCK: tl.constexpr, METHOD: tl.constexpr, STAGE: tl.constexpr, LONG: tl.constexpr,
):  # fmt: skip
    if LONG:
        first = tl.full([1, 1], float("-inf") if STAGE == "largest" or STAGE == "pivot" else 0, DTYPE)
        second = first
        third = first
        for position in range(0, tl.max(lengths), BLOCK):
            here = position + tl.arange(0, BLOCK)[None, :]
            values_here, weight_here, logarithm_here, s_here = _load_vector(
                vector, weights, starts + here, here < lengths, order, unit, DTYPE, METHOD
            )  # fmt: skip
            more_of_first, more_of_second, more_of_third = _tile_stage(
                values_here, weight_here, logarithm_here, s_here, unit, pivot, STAGE
            )  # fmt: skip
            if STAGE == "largest" or (STAGE == "pivot" or STAGE == "unit"):
                first = tl.maximum(first, more_of_first)
            else:
                first += more_of_first
                second += more_of_second
                third += more_of_third
        return first, second, third
    else:
        return _tile_stage(values, weight, logarithm, s, unit, pivot, STAGE)


@triton.jit
def _product(values, weight, s, pivot, mean, correction, factor, METHOD: tl.constexpr):
    product = s * (values - pivot - mean)
    if METHOD == "square" or METHOD == "norm":
        product = product * factor + weight * correction
    product = tl.where(weight != 0, product, 0)
    return tl.where(weight != weight, float("nan"), product)


@triton.jit(do_not_specialize=["num_copies", "num_rows"])
def _simplex_jacobian_kernel(
    vector, weights, alphas, product, inverse_gamma: tl.float64, alpha: tl.float64,
    offsets, buckets, num_copies, num_rows, length,
    DTYPE: tl.constexpr, BUCKET: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, METHOD: tl.constexpr,
    LONG: tl.constexpr,
):  # fmt: skip
    if tl.program_id(0).to(tl.int64) * ROWS >= _num_problems(offsets, buckets, num_copies, num_rows, BUCKET):
        return
    in_range, problems, starts, lengths, exists, positions = _tile(
        offsets, buckets, num_copies, num_rows, length, BUCKET, ROWS, BLOCK
    )
    order = _load_number(alphas, alpha, problems, in_range, DTYPE) - 1
    scale = _as_tile(inverse_gamma, DTYPE)
    unit = tl.zeros_like(order) + 1
    if LONG:
        values = tl.zeros([1, 1], DTYPE)
        weight = values
        logarithm = values
        s = values
    else:
        values, weight, logarithm, s = _load_vector(
            vector, weights, starts + positions, exists, order, unit, DTYPE, METHOD
        )  # fmt: skip
    if METHOD == "norm":
        unit, _, _ = _stage(
            values, weight, logarithm, s, vector, weights, starts, lengths, order, unit, unit,
            DTYPE, BLOCK, METHOD, "unit", LONG,
        )  # fmt: skip
        unit = tl.where(unit > 0, unit, 1)
        if not LONG:
            values, weight, logarithm, s = _load_vector(
                vector, weights, starts + positions, exists, order, unit, DTYPE, METHOD
            )  # fmt: skip

    pivot = tl.zeros_like(order)
    total_weight = pivot
    if METHOD == "powers":
        largest, _, _ = _stage(
            values, weight, logarithm, s, vector, weights, starts, lengths, order, unit, pivot,
            DTYPE, BLOCK, METHOD, "largest", LONG,
        )  # fmt: skip
        pivot, _, _ = _stage(
            values, weight, logarithm, s, vector, weights, starts, lengths, order, unit, largest,
            DTYPE, BLOCK, METHOD, "pivot", LONG,
        )  # fmt: skip
        pivot = tl.where(largest > float("-inf"), pivot, 0)
    elif METHOD == "square" or METHOD == "norm":
        total_weight, weighted, _ = _stage(
            values, weight, logarithm, s, vector, weights, starts, lengths, order, unit, pivot,
            DTYPE, BLOCK, METHOD, "mean", LONG,
        )  # fmt: skip
        pivot = weighted / tl.where(total_weight != 0, total_weight, 1)
    total, weighted, powers = _stage(
        values, weight, logarithm, s, vector, weights, starts, lengths, order, unit, pivot,
        DTYPE, BLOCK, METHOD, "norm" if METHOD == "square" or METHOD == "norm" else "sums", LONG,
    )  # fmt: skip
    factor = pivot
    correction = pivot
    if METHOD == "square":
        # In units of ||p||^(q - 2), by which all is multiplied at the end: ||p||^-q = 1 / sum p^q.
        powers = tl.where(powers != 0, powers, 1)
        cross = (1 - order) / powers * total_weight
        total = total - cross * total_weight
        factor = tl.exp(tl.log(powers) * ((order - 1) / (order + 1))) / order
        correction = factor * cross
    mean = weighted / tl.where(total != 0, total, 1)
    correction = correction * mean
    if METHOD == "norm":
        factor = unit * tl.exp(tl.log(tl.where(powers != 0, powers, 1)) * (order / (order + 1))) / order
        correction = -factor * weighted
        mean = tl.zeros_like(mean)

    if LONG:
        for first in range(0, tl.max(lengths), BLOCK):
            here = first + positions
            values_here, weight_here, _logarithm_here, s_here = _load_vector(
                vector, weights, starts + here, here < lengths, order, unit, DTYPE, METHOD
            )  # fmt: skip
            result = _product(values_here, weight_here, s_here, pivot, mean, correction, factor, METHOD) * scale
            _store(product, starts + here, result, here < lengths)
    else:
        result = _product(values, weight, s, pivot, mean, correction, factor, METHOD) * scale
        _store(product, starts + positions, result, exists)


# --- the gradient by alpha ---


@triton.jit
def _exponential_moment(x, DTYPE: tl.constexpr):
    """The integral of t * exp(x * t) over t from 0 to 1, which is (x * exp(x) - exp(x) + 1) / x^2."""
    near = x > -1  # x is above 0 only by rounding
    small = tl.where(near, x, 0)
    NUM_TERMS: tl.constexpr = 18 if tl.float64 == DTYPE else 10
    series = tl.zeros_like(x)
    for step in tl.static_range(NUM_TERMS):  # of small^k / (k! * (k + 2)), from the last to the first
        series = series * small * (1 / (NUM_TERMS - step)) + 1 / (NUM_TERMS - step + 1)
    large = tl.where(near, -1, x)
    return tl.where(near, series, ((large - 1) * tl.exp(large) + 1) / (large * large))


@triton.jit
def _alpha_gradient_sum(gradient, weights, places, exists, order, DTYPE: tl.constexpr):
    weight = _load(weights, places, exists, 0, DTYPE)
    supported = weight != 0
    logarithm = tl.log(tl.where(supported, weight, 1))
    change = logarithm * logarithm * _exponential_moment(order * logarithm, DTYPE)
    by_score = _load(gradient, places, exists, 0, DTYPE)
    return tl.sum(tl.where(supported, by_score * change, 0), axis=1, keep_dims=True)


@triton.jit(do_not_specialize=["num_copies", "num_rows"])
def _alpha_gradient_kernel(
    gradient, weights, alphas, sums, offsets, buckets, num_copies, num_rows, length,
    DTYPE: tl.constexpr, BUCKET: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, LONG: tl.constexpr,
):  # fmt: skip
    """
    Minus the sum of the gradient times how the slopes of Omega, (p^a - 1) / a with a = alpha - 1, change with alpha:
    by log(p)^2 times the exponential moment of a * log(p).
    """
    if tl.program_id(0).to(tl.int64) * ROWS >= _num_problems(offsets, buckets, num_copies, num_rows, BUCKET):
        return
    in_range, problems, starts, lengths, exists, positions = _tile(
        offsets, buckets, num_copies, num_rows, length, BUCKET, ROWS, BLOCK
    )
    order = _load(alphas, problems, in_range, 1, DTYPE) - 1
    if LONG:
        total = tl.zeros([1, 1], DTYPE)
        for first in range(0, tl.max(lengths), BLOCK):
            here = first + positions
            total += _alpha_gradient_sum(gradient, weights, starts + here, here < lengths, order, DTYPE)
    else:
        total = _alpha_gradient_sum(gradient, weights, starts + positions, exists, order, DTYPE)
    _store(sums, problems, -total, in_range)


# --- launches ---

NAMED_METHODS = {1.0: "softmax", 1.5: "squares", 2.0: "linear"}


def _dtype_above_2(number: float) -> list[torch.dtype]:
    return [torch.float64] if number > 2 else []


def _solve(
    scores: Tensor, mask: Tensor | None, gamma: float, alpha: float, alphas: Tensor | None, method: str,
    dtype: tl.dtype, offsets: Tensor | None,
) -> Tensor:  # fmt: skip
    weights = torch.empty_like(scores)
    arguments = scores, mask, alphas, weights, inverse(gamma, dtype), float(alpha)
    problems = Problems(scores, offsets)
    # The methods that need float64 keep more of a position, and take long to compile for many.
    elements_per_warp = 128 if method in ("any", "roots") else 512
    launch_tiles(_simplex_kernel, elements_per_warp, problems, scores, *arguments, DTYPE=dtype, METHOD=method)
    return weights


def _multiply(
    vector: Tensor, weights: Tensor, gamma: float, alpha: float, alphas: Tensor | None, method: str,
    dtype: tl.dtype, offsets: Tensor | None,
) -> Tensor:  # fmt: skip
    product = torch.empty_like(vector)
    arguments = vector, weights, alphas, product, inverse(gamma, dtype), float(alpha)
    problems = Problems(vector, offsets)
    launch_tiles(_simplex_jacobian_kernel, 512, problems, vector, *arguments, DTYPE=dtype, METHOD=method)
    return product


def sparsemax_rows(scores: Tensor, mask: Tensor | None, gamma: float, offsets: Tensor | None = None) -> Tensor:
    """The weights of every row, in the dtype of `scores`."""
    return _solve(scores, mask, gamma, 2, None, "linear", compute_type(scores.dtype), offsets)


def support_jacobian_rows(vector: Tensor, weights: Tensor, gamma: float, offsets: Tensor | None = None) -> Tensor:
    """(u_i - mean of u over S) / gamma where the weight is not 0, else 0; in the dtype of `vector`."""
    return _multiply(vector, weights, gamma, 2, None, "linear", compute_type(vector.dtype), offsets)


def entmax_rows(
    scores: Tensor,
    mask: Tensor | None,
    gamma: float,
    alpha: float,
    alphas: Tensor | None,
    may_exceed_2: bool,
    offsets: Tensor | None = None,
) -> Tensor:
    """The weights of every row, in the dtype of `scores`; computed in float64 if an alpha may exceed 2."""
    if alphas is not None:
        method = "any" if may_exceed_2 else "powers"
    else:
        method = NAMED_METHODS.get(alpha, "roots" if alpha > 2 else "powers")
    dtype = tl.float64 if method in ("any", "roots") else compute_type(scores.dtype)
    return _solve(scores, mask, gamma, alpha, alphas, method, dtype, offsets)


def entmax_jacobian_rows(
    vector: Tensor, weights: Tensor, alpha: float, alphas: Tensor | None, offsets: Tensor | None = None
) -> Tensor:
    """(diag(s) - s s^T / sum(s)) times the vector, s = p^(2 - alpha) on the support; in the dtype of `vector`."""
    method = "powers" if alphas is not None else NAMED_METHODS.get(alpha, "powers")
    dtype = compute_type(vector.dtype, weights.dtype, *_dtype_above_2(alpha if alphas is None else 0.0))
    return _multiply(vector, weights, 1.0, alpha, alphas, method, dtype, offsets)


def squared_p_norm_max_rows(
    scores: Tensor, mask: Tensor | None, gamma: float, exponent: float, offsets: Tensor | None = None
) -> Tensor:
    """The weights of every row, in the dtype of `scores`."""
    dual = exponent / (exponent - 1)
    return _solve(scores, mask, gamma, dual, None, "square", compute_type(scores.dtype), offsets)


def squared_p_norm_jacobian_rows(
    vector: Tensor, weights: Tensor, exponent: float, offsets: Tensor | None = None
) -> Tensor:
    """The Jacobian of squared p-norm max by the scores, for gamma = 1, times the vector; in the dtype of `vector`."""
    dtype = compute_type(vector.dtype, weights.dtype)
    return _multiply(vector, weights, 1.0, exponent, None, "square", dtype, offsets)


def normmax_rows(
    scores: Tensor, mask: Tensor | None, gamma: float, exponent: float, offsets: Tensor | None = None
) -> Tensor:
    """The weights of every row, in the dtype of `scores`; computed in float64 if the exponent exceeds 2."""
    dual = exponent / (exponent - 1)
    dtype = compute_type(scores.dtype, *_dtype_above_2(exponent))
    return _solve(scores, mask, gamma, dual, None, "norm", dtype, offsets)


def normmax_jacobian_rows(vector: Tensor, weights: Tensor, exponent: float, offsets: Tensor | None = None) -> Tensor:
    """The Jacobian of normmax by the scores, for gamma = 1, times the vector; in the dtype of `vector`."""
    dtype = compute_type(vector.dtype, weights.dtype, *_dtype_above_2(exponent))
    return _multiply(vector, weights, 1.0, exponent, None, "norm", dtype, offsets)


def entmax_alpha_gradient_rows(
    gradient: Tensor, weights: Tensor, alphas: Tensor, offsets: Tensor | None = None
) -> Tensor:
    """
    Of the gradient by the scores, for gamma = 1, that by the alphas: one number for each row, in the shape and dtype
    of `alphas`.
    """
    sums = torch.zeros_like(alphas)  # there may be rows of no entries
    problems = Problems(gradient, offsets)
    dtype = compute_type(gradient.dtype, weights.dtype, alphas.dtype)
    launch_tiles(_alpha_gradient_kernel, 512, problems, gradient, gradient, weights, alphas, sums, DTYPE=dtype)
    return sums
