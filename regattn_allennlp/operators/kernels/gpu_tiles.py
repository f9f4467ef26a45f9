"""
What the kernels for the GPU share: where the problems are, how they are loaded, and how kernels are launched.

A problem is a row of a matrix; or, with `offsets`, the piece offsets[r] to offsets[r + 1] of a row of the matrix, all
of whose rows, the copies, are divided alike. Either way it lies in memory in one piece.

Pieces may differ much in length. A kernel first puts them into buckets, by length, and the solver's kernel is then
launched for each bucket, with tiles that fit it. How many problems a bucket has, the device alone knows. But those of
more than k entries are at most one for every k entries, which bounds the number of programs: programs with nothing to
do are few, and nobody waits for the host. (The order within a bucket is left to chance; no problem depends on it.)

Problems are tiles (problems, positions) of registers, and what belongs to a whole problem is a tile (problems, 1).
"""

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

# Longer rows do not fit the registers of one program, and their kernels take minutes to compile.
MAX_LENGTH = 8192

# Bucket k has the problems of at most 16 * 8^k entries that no bucket before it has. The last has all that are longer
# than MAX_LENGTH, which are solved piece by piece.
SHORTEST_BUCKET = tl.constexpr(16)
BUCKET_RATIO = tl.constexpr(8)
LONG_BUCKET = tl.constexpr(4)
PROBLEMS_PER_PROGRAM = 1024
PIECE = 4096

# The kernels are not compiled anew for numbers of rows that are 1 or multiples of 16: the numbers change all the time.


@triton.jit(do_not_specialize=["num_rows"])
def _bucket_kernel(offsets, buckets, num_rows, NUM_BUCKETS: tl.constexpr, BLOCK: tl.constexpr):
    """Into `buckets`, (NUM_BUCKETS, 1 + num_rows): how many problems each bucket has, 0 before, and their numbers."""
    rows = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    exists = rows < num_rows
    start = tl.load(offsets + rows, mask=exists, other=0)
    length = tl.load(offsets + rows + 1, mask=exists, other=0) - start
    above = length > 0
    for bucket in tl.static_range(NUM_BUCKETS):
        fits = (length <= SHORTEST_BUCKET * BUCKET_RATIO**bucket) | (bucket == LONG_BUCKET)
        inside = above & fits
        target = buckets + bucket * (num_rows.to(tl.int64) + 1)
        slots = tl.atomic_add(target, tl.sum(inside.to(tl.int32))) + tl.cumsum(inside.to(tl.int32))
        tl.store(target + slots, rows, mask=inside)
        above = above & ~fits


@triton.jit
def _bucket_size(buckets, num_rows, BUCKET: tl.constexpr):
    return tl.load(buckets + BUCKET * (num_rows.to(tl.int64) + 1))


@triton.jit
def _num_problems(offsets, buckets, num_copies, num_rows, BUCKET: tl.constexpr):
    """How many problems are to be solved: those of one bucket, or, if that is negative, all."""
    if offsets is None or BUCKET < 0:
        return num_copies.to(tl.int64) * num_rows
    else:
        return num_copies.to(tl.int64) * _bucket_size(buckets, num_rows, BUCKET)


@triton.jit
def _locate(slots, offsets, buckets, num_copies, num_rows, length, BUCKET: tl.constexpr):
    """The problems at these slots: whether they exist, their numbers, where they start, and their lengths."""
    exists = slots < _num_problems(offsets, buckets, num_copies, num_rows, BUCKET)
    if offsets is None:
        return exists, slots, slots * length, tl.zeros_like(slots).to(tl.int32) + length
    else:
        rows = slots % num_rows
        copies = slots // num_rows
        if BUCKET >= 0:
            size = tl.maximum(_bucket_size(buckets, num_rows, BUCKET), 1)
            copies = slots // size
            places = BUCKET * (num_rows.to(tl.int64) + 1) + 1 + slots % size
            rows = tl.load(buckets + places, mask=exists, other=0).to(tl.int64)
        start = tl.load(offsets + rows, mask=exists, other=0)
        end = tl.load(offsets + rows + 1, mask=exists, other=0)
        return exists, copies * num_rows + rows, copies * length + start, (end - start).to(tl.int32)


@triton.jit
def _tile(
    offsets, buckets, num_copies, num_rows, length, BUCKET: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """
    This program's problems: whether they exist, their numbers, where they start, and their lengths; of the tile's
    elements, whether they exist, and their positions in their problems.
    """
    slots = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    in_range, problems, starts, lengths = _locate(slots, offsets, buckets, num_copies, num_rows, length, BUCKET)
    positions = tl.arange(0, BLOCK)[None, :]
    if offsets is None:
        return in_range, problems, starts, lengths, in_range & (positions < length), positions
    else:
        return in_range, problems, starts, lengths, in_range & (positions < lengths), positions


@triton.jit
def _as_tile(number, DTYPE: tl.constexpr):
    # A Python float arrives as float64, but in Triton's interpreter it is a Python float still.
    return (tl.zeros([1, 1], tl.float64) + number).to(DTYPE)


@triton.jit
def _load(pointer, places, exists, other: tl.constexpr, DTYPE: tl.constexpr):
    values = tl.load(pointer + places, mask=exists, other=other)
    if 32 > pointer.dtype.element_ty.primitive_bitwidth:  # noqa: SIM300 (this way round for Triton 3.2)
        values = values.to(tl.float32)  # the interpreter knows no other way up from bfloat16, or down to it
    return values.to(DTYPE)


@triton.jit
def _store(pointer, places, values, exists):
    if 32 > pointer.dtype.element_ty.primitive_bitwidth:  # noqa: SIM300 (this way round for Triton 3.2)
        values = values.to(tl.float32)
    tl.store(pointer + places, values.to(pointer.dtype.element_ty), mask=exists)


@triton.jit
def _load_number(numbers, number, problems, in_range, DTYPE: tl.constexpr):
    """What each problem has one of, or all problems have alike."""
    if numbers is None:
        return _as_tile(number, DTYPE) + tl.zeros_like(problems).to(DTYPE)
    else:
        return _load(numbers, problems, in_range, 0, DTYPE)


@triton.jit
def _load_scores(scores, mask, places, exists, DTYPE: tl.constexpr):
    """The scores, -inf where there is no variable."""
    values = _load(scores, places, exists, float("-inf"), DTYPE)
    values = tl.where(values == values, values, float("inf"))  # NaN spoils a row as inf does
    if mask is not None:
        values = tl.where(tl.load(mask + places, mask=exists, other=0) != 0, values, float("-inf"))
    return values


@triton.jit
def _scaled(values, maximum, inverse_gamma, DTYPE: tl.constexpr):
    """The distance from the maximum over gamma. Rows with the maximum inf, which have no solution, have no v."""
    solved = (values > float("-inf")) & (maximum < float("inf"))
    return tl.where(solved, (values - maximum) * _as_tile(inverse_gamma, DTYPE), float("-inf"))


@triton.jit
def _load_problem(scores, mask, places, exists, inverse_gamma, DTYPE: tl.constexpr):
    """
    v, -inf where there is no variable; where there is one; which rows have no solution; and the rows' maxima, of which
    v is the distance over gamma.
    """
    values = _load_scores(scores, mask, places, exists, DTYPE)
    maximum = tl.max(values, axis=1, keep_dims=True)
    included = values > float("-inf")
    return _scaled(values, maximum, inverse_gamma, DTYPE), included, maximum == float("inf"), maximum


# --- launches ---


def _quotient(dividend: int, divisor: int) -> int:
    """Rounded up."""
    return -(-dividend // divisor)


class Problems:
    """Where the problems in matrices of the shape of `scores` are."""

    def __init__(self, scores: Tensor, offsets: Tensor | None) -> None:
        self.offsets = offsets
        self.buckets = None
        self.num_copies, self.num_rows, self.length = 1, *scores.shape
        if offsets is None:
            self.num_buckets = 1
            return
        self.num_copies, self.num_rows = scores.size(0), len(offsets) - 1
        # As many as there are of which the shortest problem is not longer than all entries together.
        self.num_buckets = 1 + sum(self.length > self._longest(bucket) for bucket in range(LONG_BUCKET.value))
        if not self.num_copies * self.num_rows * self.length:
            return
        self.buckets = offsets.new_empty(self.num_buckets, 1 + self.num_rows, dtype=torch.int32)
        self.buckets[:, 0] = 0
        grid = (_quotient(self.num_rows, PROBLEMS_PER_PROGRAM),)
        with torch.cuda.device_of(scores):
            _bucket_kernel[grid](
                offsets, self.buckets, self.num_rows, NUM_BUCKETS=self.num_buckets, BLOCK=PROBLEMS_PER_PROGRAM
            )

    @staticmethod
    def _longest(bucket: int) -> int:
        return SHORTEST_BUCKET.value * BUCKET_RATIO.value**bucket

    def __len__(self) -> int:
        return self.num_copies * self.num_rows

    def arguments(self) -> tuple:
        """What kernels are told of it."""
        return self.offsets, self.buckets, self.num_copies, self.num_rows, self.length

    def sizes(self) -> Iterator[tuple[int, int, int]]:
        """The buckets, the lengths of their longest problems, and how many problems they have at most."""
        if self.offsets is None:
            yield 0, self.length, self.num_rows
            return
        for bucket in range(self.num_buckets):
            longest = self._longest(bucket) if bucket < LONG_BUCKET.value else self.length
            shortest = self._longest(bucket - 1) + 1 if bucket else 1
            yield bucket, longest, min(self.num_rows, self.length // shortest) * self.num_copies


def launch(
    kernel, bucket: int, rows: int, num_problems: int, num_warps: int, scores: Tensor, *arguments, **constants
) -> None:
    """Run `kernel` with `rows` of the problems to a program."""
    if not scores.numel() * num_problems:
        return
    with torch.cuda.device_of(scores):
        kernel[(_quotient(num_problems, rows),)](
            *arguments, BUCKET=bucket, ROWS=rows, **constants, num_warps=num_warps, enable_fp_fusion=False
        )


def launch_tiles(
    kernel, elements_per_warp: int, problems: Problems, scores: Tensor, *arguments, longer_than: int = 0, **constants
) -> None:
    """
    Run `kernel` for every bucket, with one warp to a program if a row is not longer than 512. It is told whether its
    problems are too long for tiles, if it has LONG; else such are left out. So are buckets without longer ones than
    `longer_than`.
    """
    can_be_long = "LONG" in kernel.arg_names
    for bucket, longest, num_problems in problems.sizes():
        is_long = longest > MAX_LENGTH
        block = PIECE if is_long else max(16, 1 << (longest - 1).bit_length())
        if longest <= longer_than or (is_long and not can_be_long):
            continue
        extra = {"LONG": is_long} if can_be_long else {}
        num_warps = min(16, max(1, block // 512))
        rows = 1 if is_long else max(1, elements_per_warp // block)
        launch(
            kernel, bucket, rows, num_problems, num_warps, scores, *arguments, *problems.arguments(),
            BLOCK=block, **constants, **extra,
        )  # fmt: skip


def compute_type(*dtypes: torch.dtype) -> tl.dtype:
    return tl.float64 if torch.float64 in dtypes else tl.float32


def inverse(gamma: float, dtype: tl.dtype) -> float:
    # In a range where neither it nor its product with a difference of 0, or an infinite one, is infinite or NaN.
    largest = 1e307 if dtype is tl.float64 else 1e37
    return min(max(1 / gamma, 1 / largest), largest)
