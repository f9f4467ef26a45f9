"""
The row solvers on the GPU, in Triton. One program solves a few rows, all positions at once, and waits for nobody;
sizes come from shapes alone, so that CUDA graphs can capture them. But fusedmax and oscarmax of rows longer than
MAX_LENGTH are solved by `plain`, which waits for the device once a round; and of packed rows, as soon as all of them
together are that long, the host has to be told once which ones are: before a graph with these offsets is captured.

All of them work on v = (x - max x) / gamma, in float64 for float64 and in float32 for anything narrower (but entmax
whose alpha may exceed 2, and normmax whose exponent does, in float64). None walks along a row from left to right. Each
takes a few rounds over whole rows instead, each round some reductions or scans: Newton's method for thresholds,
divisions for fusedmax's segments; but a round to each of oscarmax's groups in the support, and to each block of more
than one position in the Jacobian.

With `offsets` the rows of `scores` are copies that hold the same rows of different lengths, packed: row r of each is
its entries offsets[r] to offsets[r + 1]. What has one number for each row has it copy by copy.

`gpu_tiles` has what all kernels share, `gpu_simplex` those of which one number a row is all that is to be found.
"""

from collections.abc import Callable

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from regattn_allennlp.operators.kernels import plain
from regattn_allennlp.operators.kernels.gpu_simplex import (
    entmax_alpha_gradient_rows,
    entmax_jacobian_rows,
    entmax_rows,
    normmax_jacobian_rows,
    normmax_rows,
    sparsemax_rows,
    squared_p_norm_jacobian_rows,
    squared_p_norm_max_rows,
    support_jacobian_rows,
)
from regattn_allennlp.operators.kernels.gpu_tiles import (
    MAX_LENGTH,
    Problems,
    _as_tile,
    _load_number,
    _load_problem,
    _locate,
    _num_problems,
    _tile,
    compute_type,
    inverse,
    launch,
    launch_tiles,
)

__all__ = [
    "block_jacobian_rows",
    "entmax_alpha_gradient_rows",
    "entmax_jacobian_rows",
    "entmax_rows",
    "fusedmax_rows",
    "normmax_jacobian_rows",
    "normmax_rows",
    "oscarmax_rows",
    "sparsemax_rows",
    "squared_p_norm_jacobian_rows",
    "squared_p_norm_max_rows",
    "support_jacobian_rows",
]

# A position and a count of positions share an integer, or two counts do.
COUNT_BITS = tl.constexpr(MAX_LENGTH.bit_length())
COUNT_MASK = tl.constexpr(2 * MAX_LENGTH - 1)

# As many positions of a row as one thread solves for by itself.
FEW = 16

# How far below the bound of weight zero a score must be before it is dropped, and relatively how far below a bound
# Newton's method starts: rounding then cannot lift them above.
SLACK = tl.constexpr(1e-3)
RELATIVE_SLACK = tl.constexpr(1e-5)

# Numbers above this are as good as it, and products with them infinite in float32.
LARGEST_LAM = tl.constexpr(1e30)


@triton.jit
def _fail_for_lam(lam, values, failed):
    """A row whose lam is not a finite number, 0 or above, has no solution either: lam, v and which rows fail, anew."""
    usable = (lam >= 0) & (lam < float("inf"))
    return tl.where(usable, tl.minimum(lam, LARGEST_LAM), 0), tl.where(usable, values, float("-inf")), failed | ~usable


@triton.jit
def _newton_step(values, threshold):
    """A step towards the t with sum max(v - t, 0) = 1, from any t below."""
    above = values > threshold
    num_above = tl.sum(above.to(tl.int32), axis=1, keep_dims=True)
    excess = tl.sum(tl.where(above, values - threshold, 0), axis=1, keep_dims=True) - 1
    return threshold + excess / tl.maximum(num_above, 1).to(threshold.dtype)


# --- fusedmax ---
#
# Which positions have z > t, for a given t, is a minimum cut of a chain, and needs no z:
#
#     {i : z_i > t} minimizes, over sets S,  sum_{i in S} (t - v_i) + lam * (number of neighbours of which S has one).
#
# Dynamic programming solves it. The message d_k, the least cost of positions 1..k with k in S less that without,
# follows from the one before by d_k = clip(d_{k-1}, -lam, lam) + t - v_k. Functions clip(d + shift, low, high) are
# closed under composition, so all messages come from one associative scan; and where the clipped message is at a
# bound, k is in S, or not, whatever its right neighbour does: else k does as its right neighbour.
#
# With S(t) = {z > t}, F(t) = sum_i max(z_i - t, 0) = sum_{S(t)} (v_i - t) - lam * perimeter(S(t)), a maximum over
# sets: convex and piecewise linear in t. Newton's method from below solves F(t) = 1, for the simplex threshold. That
# gives the support, before any block is known. Then every segment of the support is cut at its own mean: what is
# above and what is below are segments themselves, and a segment that is not cut is a block, the mean its level.
#
# All of this is done for what is left after a screening only. That is a few positions in most rows: `_fuse_few` solves
# these a row to a thread, which needs no communication, and `_fuse_many` the others.


@triton.jit
def _then(shift_first, low_first, high_first, shift, low, high):
    """clip(x + shift_first, low_first, high_first), and of that clip(x + shift, low, high)."""
    return (
        shift_first + shift,
        tl.minimum(tl.maximum(low_first + shift, low), high),
        tl.minimum(tl.maximum(high_first + shift, low), high),
    )


@triton.jit
def _next_two(first_after, second_after, first, second):
    """Right to left: the next decision from here on, and the next one to the right of here. -1: none made here."""
    return tl.where(first >= 0, first, first_after), tl.where(second >= 0, second, first_after)


@triton.jit
def _cut(values, level, lam, starts, ends, before, after, AXIS: tl.constexpr):
    """
    1 where z > level, else 0, in each segment by itself; and the same of the next position.
    `before` and `after` are, at a segment's first and last position, what it costs to be above the level with regard
    to the neighbouring segment: lam, -lam or 0.
    """
    cost = level - values
    first = tl.minimum(tl.maximum(cost + before, -lam), lam)
    _, message, _ = tl.associative_scan(
        (tl.where(starts, 0, cost), tl.where(starts, first, -lam), tl.where(starts, first, lam)), AXIS, _then
    )
    above = tl.where(ends & (after <= 0), message < -after, message <= -lam)
    above = tl.where(lam > 0, above, cost < 0)
    decided = ends | (message <= -lam) | (message >= lam)
    decision = tl.where(decided, above.to(tl.int32), -1)
    return tl.associative_scan((decision, tl.full(decision.shape, -1, tl.int32)), AXIS, _next_two, reverse=True)


@triton.jit
def _last_two(last_before, previous_before, last, previous):
    """The last value so far, and the one before it. -1: not here."""
    return last, tl.where(previous >= 0, previous, last_before)


@triton.jit
def _within_segment(slot_before, sum_before, slot, sum_):
    """Running sums that begin anew at every slot >= 0; the others are -1."""
    return tl.maximum(slot_before, slot), tl.where(slot >= 0, sum_, sum_before + sum_)


@triton.jit
def _from_segment_end(slot_after, value_after, slot, value):
    """Right to left: the value at the next slot >= 0; the others are -1."""
    return tl.maximum(slot_after, slot), tl.where(slot >= 0, value, value_after)


@triton.jit
def _segment_means(values, slots, starts, ends, AXIS: tl.constexpr):
    last = values.shape[AXIS] - 1
    start, total = tl.associative_scan((tl.where(starts, slots, -1), values), AXIS, _within_segment)
    # One number for the whole segment: sums from both sides would not be equal to the last bit.
    end, total = tl.associative_scan((tl.where(ends, last - slots, -1), total), AXIS, _from_segment_end, reverse=True)
    return total / (1 + last - start - end).to(values.dtype)


@triton.jit
def _fuse(
    scores, packed, row_starts, lengths, maximum, inverse_gamma, lam, threshold, count, num_dropped, slots,
    DTYPE: tl.constexpr, AXIS: tl.constexpr,
):  # fmt: skip
    """
    Weights and block numbers of the positions left after the screening: the first `count` of `packed`, each a position
    and how many were dropped before it. `threshold` is a lower bound of the simplex threshold.
    """
    exists = slots < count
    values = tl.load(scores + row_starts + (packed & COUNT_MASK), mask=exists, other=0).to(DTYPE)
    values = tl.where(exists, (values - maximum) * _as_tile(inverse_gamma, DTYPE), 0)
    dropped = packed >> COUNT_BITS
    none = tl.full(dropped.shape, -1, tl.int32)
    _, dropped_before = tl.associative_scan((dropped, none), AXIS, _last_two)
    _, dropped_after = tl.associative_scan((dropped, none), AXIS, _last_two, reverse=True)
    starts_run = exists & (dropped > tl.where(slots > 0, dropped_before, 0))
    ends_run = exists & (dropped < tl.where(slots + 1 < count, dropped_after, num_dropped))
    # With lam = 0 every position is a block.
    starts = starts_run | (slots == 0) | ~exists | (lam == 0)
    ends = ends_run | (slots + 1 >= count) | (lam == 0)
    before = tl.where(starts_run, lam, 0)
    after = tl.where(ends_run, lam, 0)

    num_active = tl.zeros_like(count) + values.shape[AXIS] + 1
    improving = num_active > 0
    supported = exists.to(tl.int32)
    next_supported = supported
    while tl.max(improving.to(tl.int32)) > 0:
        above, next_above = _cut(values, threshold, lam, starts, ends, before, after, AXIS)
        above = tl.where(exists, above, 0)
        excess = tl.where(above != 0, values - threshold - before - after, 0)
        excess -= tl.where((above != next_above) & ~ends, lam, 0)
        excess = tl.sum(excess, axis=AXIS, keep_dims=True) - 1
        num_above = tl.sum(above, axis=AXIS, keep_dims=True)
        # As in `_simplex_threshold`.
        step = excess / tl.maximum(num_above, 1).to(threshold.dtype)
        threshold = tl.where(improving & (num_above > 0) & (num_above <= num_active), threshold + step, threshold)
        improving = improving & (num_above > 0) & (num_above < num_active)
        supported = tl.where(improving, above, supported)
        next_supported = tl.where(improving, next_above, next_supported)
        num_active = num_above

    # What is not in the support is left out: every position by itself, so that it takes no part.
    starts = starts | (supported == 0)
    ends = ends | (supported == 0)
    above = supported
    next_above = next_supported
    level = values
    num_cuts = 1
    while num_cuts > 0:  # at most as often as there are positions, as every cut ends a segment that did not end there
        _, previous_above = tl.associative_scan((above, none), AXIS, _last_two)
        side = tl.where(above != 0, lam, -lam)
        before = tl.where(~starts & (previous_above != above), side, before)
        after = tl.where(~ends & (next_above != above), side, after)
        starts = starts | (previous_above != above)
        ends = ends | (next_above != above)
        level = _segment_means(values - before - after, slots, starts, ends, AXIS)
        above, next_above = _cut(values, level, lam, starts, ends, before, after, AXIS)
        num_cuts = tl.sum(((next_above != above) & ~ends).to(tl.int32))
    weights = tl.where(supported != 0, tl.maximum(level - threshold, 0), 0)
    number = tl.cumsum((starts & ~ends).to(tl.int32), axis=AXIS)
    return weights, tl.where(starts & ends, lengths + 1 + (packed & COUNT_MASK), number)


@triton.jit(do_not_specialize=["num_copies", "num_rows"])
def _screen_kernel(
    scores, mask, lams, weights, blocks, few, counts, nums_dropped, thresholds, maxima,
    inverse_gamma: tl.float64, lam: tl.float64, offsets, buckets, num_copies, num_rows, length,
    DTYPE: tl.constexpr, BUCKET: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, FEW: tl.constexpr,
):  # fmt: skip
    """
    Write where the positions left of each row are: to `few`, (FEW, number of all rows), or else to the front of the
    row in `blocks`.
    """
    if tl.program_id(0).to(tl.int64) * ROWS >= _num_problems(offsets, buckets, num_copies, num_rows, BUCKET):
        return
    in_range, rows, row_starts, _, exists, positions = _tile(
        offsets, buckets, num_copies, num_rows, length, BUCKET, ROWS, BLOCK
    )
    places = row_starts + positions
    lam = _load_number(lams, lam, rows, in_range, DTYPE)
    values, included, failed, maximum = _load_problem(scores, mask, places, exists, inverse_gamma, DTYPE)
    lam, values, failed = _fail_for_lam(lam, values, failed)

    # F(t) is at least the sum of v_i - t - 2 lam over any set: the simplex threshold is at least sparsemax's, less
    # 2 lam. And z_i <= v_i + 2 lam. So whatever is 4 lam below sparsemax's threshold has weight 0 and may be lowered
    # to -inf: then its neighbours always pay lam for being above it, and it need not be solved for. Two of Newton's
    # steps come close to that threshold, from below.
    threshold = tl.full([ROWS, 1], -1, DTYPE)
    threshold = _newton_step(values, threshold)
    threshold = _newton_step(values, threshold)
    kept = values > threshold - 4 * lam - (lam * RELATIVE_SLACK + SLACK)

    # Both counts share an integer.
    counted = kept.to(tl.int32) + ((included & ~kept).to(tl.int32) << COUNT_BITS)
    total = tl.sum(counted, axis=1, keep_dims=True)
    count = total & COUNT_MASK
    # The sum over all positions, of perimeter 0, bounds F too. With large lam that is the bound free of large numbers.
    mean = tl.sum(tl.where(values > float("-inf"), values, 0), axis=1, keep_dims=True) - 1
    mean = mean / tl.maximum(count + (total >> COUNT_BITS), 1).to(DTYPE)
    tl.store(counts + rows, count, mask=in_range)
    tl.store(nums_dropped + rows, total >> COUNT_BITS, mask=in_range)
    bound = tl.maximum(threshold - 2 * lam, mean)
    tl.store(thresholds + rows, bound - tl.abs(bound) * RELATIVE_SLACK, mask=in_range)
    tl.store(maxima + rows, maximum, mask=in_range)

    counted = tl.cumsum(counted, axis=1)
    slots = (counted & COUNT_MASK) - 1
    packed = counted - (counted & COUNT_MASK) + positions  # in place of the count, the position
    are_few = count <= FEW
    tl.store(few + rows + slots.to(tl.int64) * num_copies * num_rows, packed, mask=kept & are_few)
    is_nan = failed & included
    tl.store(weights + places, tl.where(is_nan, float("nan"), 0.0), mask=exists & are_few)
    tl.store(blocks + places, tl.where(is_nan, -1, 0), mask=exists & are_few)
    if tl.max(count) > FEW:
        tl.store(blocks + row_starts + slots, packed, mask=kept & ~are_few)


# Not to know that num_rows is a multiple of 16, as it often is, also keeps a thread's loads to one row here.
@triton.jit(do_not_specialize=["num_copies", "num_rows"])
def _fuse_few_kernel(
    scores, lams, weights, blocks, few, counts, nums_dropped, thresholds, maxima,
    inverse_gamma: tl.float64, lam: tl.float64, offsets, buckets, num_copies, num_rows, length,
    DTYPE: tl.constexpr, BUCKET: tl.constexpr, ROWS: tl.constexpr, FEW: tl.constexpr,
):  # fmt: skip
    """The rows of all buckets of which `_screen_kernel` left at most FEW positions."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[None, :]
    in_range, rows, row_starts, lengths = _locate(rows, offsets, buckets, num_copies, num_rows, length, BUCKET)
    slots = tl.arange(0, FEW)[:, None]
    lam = _load_number(lams, lam, rows, in_range, DTYPE)
    count = tl.load(counts + rows, mask=in_range, other=0)
    count = tl.where(count <= FEW, count, 0)
    exists = slots < count
    packed = tl.load(few + rows + slots.to(tl.int64) * num_copies * num_rows, mask=exists, other=0)
    num_dropped = tl.load(nums_dropped + rows, mask=in_range, other=0)
    threshold = tl.load(thresholds + rows, mask=in_range, other=0)
    maximum = tl.load(maxima + rows, mask=in_range, other=0)
    solution, numbers = _fuse(
        scores, packed, row_starts, lengths, maximum, inverse_gamma, lam, threshold, count, num_dropped, slots,
        DTYPE, AXIS=0,
    )  # fmt: skip
    solution = solution.to(weights.dtype.element_ty)
    targets = row_starts + (packed & COUNT_MASK)
    tl.store(weights + targets, solution, mask=exists & (solution != 0))
    tl.store(blocks + targets, numbers, mask=exists & (solution != 0))


@triton.jit
def _fuse_many(
    scores, weights, blocks, row_starts, lengths, maximum, inverse_gamma, lam, threshold, count, num_dropped,
    DTYPE: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    slots = tl.arange(0, SIZE)[None, :]
    exists = slots < count
    packed = tl.load(blocks + row_starts + slots, mask=exists, other=0)
    solution, numbers = _fuse(
        scores, packed, row_starts, lengths, maximum, inverse_gamma, lam, threshold, count, num_dropped, slots,
        DTYPE, AXIS=1,
    )  # fmt: skip
    solution = solution.to(weights.dtype.element_ty)

    tl.debug_barrier()  # all threads have read what is overwritten now
    positions = tl.arange(0, BLOCK)[None, :]
    everywhere = (positions < lengths) & (count > 0)
    zeros = tl.zeros_like(row_starts + positions)
    tl.store(weights + row_starts + positions, zeros.to(weights.dtype.element_ty), mask=everywhere)
    tl.store(blocks + row_starts + positions, zeros.to(tl.int32), mask=everywhere)
    tl.debug_barrier()  # the order of two writes to one place
    targets = row_starts + (packed & COUNT_MASK)
    tl.store(weights + targets, solution, mask=exists & (solution != 0))
    tl.store(blocks + targets, numbers, mask=exists & (solution != 0))


@triton.jit(do_not_specialize=["num_copies", "num_rows"])
def _fuse_many_kernel(
    scores, lams, weights, blocks, counts, nums_dropped, thresholds, maxima,
    inverse_gamma: tl.float64, lam: tl.float64, offsets, buckets, num_copies, num_rows, length,
    DTYPE: tl.constexpr, BUCKET: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, FEW: tl.constexpr,
):  # fmt: skip
    """The rows of which `_screen_kernel` left more than FEW positions."""
    SMALL: tl.constexpr = BLOCK if BLOCK <= 64 else 64 if BLOCK <= 512 else BLOCK // 8
    in_range, rows, row_starts, lengths, _, _ = _tile(
        offsets, buckets, num_copies, num_rows, length, BUCKET, ROWS, BLOCK
    )
    count = tl.load(counts + rows, mask=in_range, other=0)
    count = tl.where(count > FEW, count, 0)
    most = tl.max(count)
    if most > 0:
        row_lam = _load_number(lams, lam, rows, in_range, DTYPE)
        num_dropped = tl.load(nums_dropped + rows, mask=in_range, other=0)
        threshold = tl.load(thresholds + rows, mask=in_range, other=0)
        maximum = tl.load(maxima + rows, mask=in_range, other=0)
        if most <= SMALL:
            _fuse_many(
                scores, weights, blocks, row_starts, lengths, maximum, inverse_gamma, row_lam, threshold, count,
                num_dropped, DTYPE, SMALL, BLOCK,
            )  # fmt: skip
        elif SMALL < BLOCK:
            _fuse_many(
                scores, weights, blocks, row_starts, lengths, maximum, inverse_gamma, row_lam, threshold, count,
                num_dropped, DTYPE, BLOCK, BLOCK,
            )  # fmt: skip


# --- oscarmax ---


@triton.jit(do_not_specialize=["num_copies", "num_rows"])
def _oscarmax_kernel(
    scores, mask, lams, weights, blocks, inverse_gamma: tl.float64, lam: tl.float64,
    offsets, buckets, num_copies, num_rows, length,
    DTYPE: tl.constexpr, BUCKET: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    if tl.program_id(0).to(tl.int64) * ROWS >= _num_problems(offsets, buckets, num_copies, num_rows, BUCKET):
        return
    in_range, rows, row_starts, lengths, exists, positions = _tile(
        offsets, buckets, num_copies, num_rows, length, BUCKET, ROWS, BLOCK
    )
    places = row_starts + positions
    lam = _load_number(lams, lam, rows, in_range, DTYPE)
    values, included, failed, _ = _load_problem(scores, mask, places, exists, inverse_gamma, DTYPE)
    lam, values, failed = _fail_for_lam(lam, values, failed)
    solved = included & ~failed
    count = tl.sum(solved.to(tl.int32), axis=1, keep_dims=True)
    # From the largest difference on all lam make one group. Larger ones would take the digits of the values.
    lam = tl.minimum(lam, 1 - tl.min(tl.where(solved, values, 0), axis=1, keep_dims=True))
    # Below this the weight is 0 whatever else is in the row: numbers stay in a moderate range.
    values = tl.where(solved, tl.maximum(values, -2 - lam * count.to(DTYPE)), float("-inf"))

    # v - lam * (n - rank), plus a constant of the row's that changes no weight and leaves little to cancel.
    ordered = tl.sort(values, descending=True)
    ranked = positions < count
    regressed = tl.where(ranked, ordered + lam * positions.to(DTYPE), 0)
    regressed -= tl.sum(regressed, axis=1, keep_dims=True) / tl.maximum(count, 1).to(DTYPE)
    sums = tl.cumsum(tl.where(ranked, regressed, 0), axis=1)

    # The isotonic regression's blocks from the top, as far as the simplex threshold of those found so far: the next
    # one is where the mean from the last one's end onwards is largest.
    level = tl.zeros_like(values)
    numbers = tl.zeros_like(positions + rows).to(tl.int32)
    done = tl.zeros_like(count)
    sum_done = tl.zeros_like(lam)
    num_groups = tl.zeros_like(count)
    active = count > 0
    while tl.max(active.to(tl.int32)) > 0:
        ahead = (positions >= done) & ranked
        mean = tl.where(ahead, (sums - sum_done) / tl.maximum(positions - done + 1, 1).to(DTYPE), float("-inf"))
        best = tl.max(mean, axis=1, keep_dims=True)
        # Membership is a matter of the score alone, as equal scores have equal weights: no need to undo the sort.
        lowest = tl.min(tl.where(ahead & (mean == best), ordered, float("inf")), axis=1, keep_dims=True)
        group = ahead & (ordered >= lowest)
        size = tl.sum(group.to(tl.int32), axis=1, keep_dims=True)
        total = tl.sum(tl.where(group, regressed, 0), axis=1, keep_dims=True)
        group_level = total / tl.maximum(size, 1).to(DTYPE)
        threshold = (sum_done - 1) / tl.maximum(done, 1).to(DTYPE)
        active = active & ((done == 0) | (group_level > threshold))
        single = (size == 1) | (lam == 0)
        num_groups += (active & ~single).to(tl.int32)
        members = active & solved & (numbers == 0) & (values >= lowest)
        level = tl.where(members, group_level, level)
        numbers = tl.where(members, tl.where(single, lengths + 1 + positions, num_groups), numbers)
        sum_done += tl.where(active, total, 0)
        done += tl.where(active, size, 0)
        active = active & (done < count)
    threshold = (sum_done - 1) / tl.maximum(done, 1).to(DTYPE)
    solution = tl.where(numbers > 0, tl.maximum(level - threshold, 0), 0)
    solution = tl.where(failed & included, float("nan"), solution).to(weights.dtype.element_ty)
    numbers = tl.where(solution != 0, numbers, 0)
    numbers = tl.where(failed & included, -1, numbers)
    tl.store(weights + places, solution, mask=exists)
    tl.store(blocks + places, numbers, mask=exists)


# --- Jacobians ---


@triton.jit
def _mean(values, members):
    num_members = tl.sum(members.to(tl.int32), axis=1, keep_dims=True)
    total = tl.sum(tl.where(members, values, 0), axis=1, keep_dims=True)
    return total / tl.maximum(num_members, 1).to(values.dtype)


@triton.jit(do_not_specialize=["num_copies", "num_rows"])
def _block_jacobian_kernel(
    vector, blocks, product, inverse_gamma: tl.float64, offsets, buckets, num_copies, num_rows, length,
    DTYPE: tl.constexpr, BUCKET: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    if tl.program_id(0).to(tl.int64) * ROWS >= _num_problems(offsets, buckets, num_copies, num_rows, BUCKET):
        return
    _, _, row_starts, lengths, exists, positions = _tile(
        offsets, buckets, num_copies, num_rows, length, BUCKET, ROWS, BLOCK
    )
    places = row_starts + positions
    number = tl.load(blocks + places, mask=exists, other=0)
    values = tl.load(vector + places, mask=exists, other=0).to(DTYPE)
    # A number above the row's length is that of a block of one position, which is its own mean.
    mean = values
    last = tl.max(tl.where(number <= lengths, number, 0))
    block = 1
    while block <= last:
        members = number == block
        mean = tl.where(members, _mean(values, members), mean)
        block += 1
    result = (mean - _mean(values, number != 0)) * _as_tile(inverse_gamma, DTYPE)
    result = tl.where(number != 0, result, 0)
    result = tl.where(number < 0, float("nan"), result)
    tl.store(product + places, result.to(product.dtype.element_ty), mask=exists)


# --- launches ---

# The numbers of the rows that are too long for tiles, for the offsets that are still in use.
_long_rows_by_offsets = WeakTensorKeyDictionary()


def _long_rows(offsets: Tensor, num_entries: int) -> list[tuple[int, int, int]]:
    """Number, start and end of the rows that are too long for tiles. The host waits for them, once for the offsets."""
    if num_entries <= MAX_LENGTH:
        return []
    is_cached = not offsets.is_inference()  # else changes to it are not counted
    version, rows = _long_rows_by_offsets.get(offsets, (None, []))
    if is_cached and version == offsets._version:
        return rows
    numbers = (offsets.diff() > MAX_LENGTH).nonzero().flatten()
    rows = torch.stack([numbers, offsets[numbers], offsets[numbers + 1]], dim=1).tolist()
    if is_cached:
        _long_rows_by_offsets[offsets] = offsets._version, rows
    return rows


def _solve_with_lam(
    name: str,
    solve: Callable[..., None],
    scores: Tensor,
    mask: Tensor | None,
    gamma: float,
    lam: float,
    lams: Tensor | None,
    offsets: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """
    The weights of every row, in the dtype of `scores`, and the number of every position's block: equal for two
    positions of a row with weights if they are in the same block; 0 where the weight is 0, -1 where it is NaN.
    """
    solve_in_plain_operations = getattr(plain, f"{name}_rows")
    if offsets is None and scores.size(1) > MAX_LENGTH and scores.size(0):
        return solve_in_plain_operations(scores, mask, gamma, lam, lams)
    weights = torch.empty_like(scores)
    blocks = torch.empty_like(scores, dtype=torch.int32)
    problems = Problems(scores, offsets)
    numbers = inverse(gamma, compute_type(scores.dtype)), min(float(lam), LARGEST_LAM.value)
    solve(problems, scores, mask, lams, weights, blocks, *numbers)
    if offsets is not None and scores.size(0):
        for row, start, end in _long_rows(offsets, scores.size(1)):
            piece = slice(None), slice(start, end)
            row_lams = None if lams is None else lams.view(problems.num_copies, -1)[:, row]
            weights[piece], blocks[piece] = solve_in_plain_operations(
                scores[piece], None if mask is None else mask[piece], gamma, lam, row_lams
            )
    return weights, blocks


def fusedmax_rows(
    scores: Tensor, mask: Tensor | None, gamma: float, lam: float, lams: Tensor | None, offsets: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    return _solve_with_lam("fusedmax", _launch_fusedmax, scores, mask, gamma, lam, lams, offsets)


def _launch_fusedmax(
    problems: Problems, scores: Tensor, mask: Tensor | None, lams: Tensor | None, weights: Tensor, blocks: Tensor,
    *numbers: float,
) -> None:  # fmt: skip
    dtype = compute_type(scores.dtype)
    few = scores.new_empty(FEW, len(problems), dtype=torch.int32)
    # How many positions are left of each row (none of those that are in no tile), how many were dropped, lower bounds
    # of the threshold, maxima.
    compute_dtype = torch.float64 if dtype is tl.float64 else torch.float32
    counts = scores.new_zeros(len(problems), dtype=torch.int32)
    dtypes = torch.int32, compute_dtype, compute_dtype
    per_row = [counts, *(scores.new_empty(len(problems), dtype=dtype) for dtype in dtypes)]
    arguments = scores, mask, lams, weights, blocks, few, *per_row, *numbers
    launch_tiles(_screen_kernel, 256, problems, scores, *arguments, DTYPE=dtype, FEW=FEW)
    arguments = scores, lams, weights, blocks, few, *per_row, *numbers, *problems.arguments()
    launch(_fuse_few_kernel, -1, 32, len(problems), 1, scores, *arguments, DTYPE=dtype, FEW=FEW)
    arguments = scores, lams, weights, blocks, *per_row, *numbers
    launch_tiles(_fuse_many_kernel, 256, problems, scores, *arguments, longer_than=FEW, DTYPE=dtype, FEW=FEW)


def oscarmax_rows(
    scores: Tensor, mask: Tensor | None, gamma: float, lam: float, lams: Tensor | None, offsets: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    return _solve_with_lam("oscarmax", _launch_oscarmax, scores, mask, gamma, lam, lams, offsets)


def _launch_oscarmax(problems: Problems, scores: Tensor, *arguments) -> None:
    launch_tiles(_oscarmax_kernel, 256, problems, scores, scores, *arguments, DTYPE=compute_type(scores.dtype))


def block_jacobian_rows(vector: Tensor, blocks: Tensor, gamma: float, offsets: Tensor | None = None) -> Tensor:
    """
    (mean of u over i's block - mean of u over S) / gamma where the block's number is not 0, else 0; in the dtype of
    `vector`. Numbers above the rows' length are those of blocks of one position. It takes a round for every number
    from 1 to the largest of the others.
    """
    if offsets is None and vector.size(1) > MAX_LENGTH:
        return _block_jacobian_of_long_rows(vector, blocks, gamma)
    product = torch.empty_like(vector)
    problems = Problems(vector, offsets)
    dtype = compute_type(vector.dtype)
    arguments = vector, blocks, product, inverse(gamma, dtype)
    launch_tiles(_block_jacobian_kernel, 256, problems, vector, *arguments, DTYPE=dtype)
    if offsets is not None:
        for _, start, end in _long_rows(offsets, vector.size(1)):
            piece = slice(None), slice(start, end)
            product[piece] = _block_jacobian_of_long_rows(vector[piece], blocks[piece], gamma)
    return product


def _block_jacobian_of_long_rows(vector: Tensor, blocks: Tensor, gamma: float) -> Tensor:
    """`block_jacobian_rows` for blocks of any number."""
    supported = blocks != 0
    values = vector.to(torch.promote_types(vector.dtype, torch.float32)).where(supported, 0)
    places = blocks.clamp(min=0).long()
    none = values.new_zeros(values.size(0), 2 * values.size(1) + 2)  # as far as blocks are numbered
    sizes = none.scatter_add(-1, places, supported.to(values.dtype))
    means = none.scatter_add(-1, places, values) / sizes.clamp(min=1)
    mean = values.sum(-1, keepdim=True) / supported.sum(-1, keepdim=True).clamp(min=1)
    product = (means.gather(-1, places) - mean) * inverse(gamma, compute_type(vector.dtype))
    return product.where(supported, 0).masked_fill(blocks < 0, torch.nan).to(vector.dtype)
