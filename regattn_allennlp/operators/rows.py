"""
The way in and out that all operators share: arguments checked, masks applied, rows laid out, dtypes restored.

A dimension holds one row; or, with `offsets`, several rows one after another, packed. Inside, packed entries are a
matrix (num_copies, num_entries) whose rows are packed alike, as the heads of an attention are, and what belongs to a
packed row has the shape (num_copies, num_rows). Dense rows are a matrix (num_rows, row_length), and what belongs to
one has the shape (num_rows, 1).
"""

import math
import operator
from collections.abc import Callable, Sequence
from numbers import Real
from typing import overload

import torch
from torch import Tensor

# Half precision is too coarse to find a threshold in: it is computed in float32 and rounded once, at the end.
COMPUTE_DTYPES = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float32: torch.float32,
    torch.float64: torch.float64,
}


def check_gamma(gamma: float | Tensor) -> float | Tensor:
    return check_parameter("gamma", gamma, lambda value: value > 0, "above 0")


def check_lam(lam: float | Tensor) -> float | Tensor:
    return check_parameter("lam", lam, lambda value: value >= 0, "0 or above")


def check_parameter(
    name: str, value: float | Tensor, is_valid: Callable[[float], bool], wanted: str
) -> float | Tensor:
    """Of a tensor only the dtype is checked: to look into it would make a GPU wait."""
    if not isinstance(value, Tensor):
        return check_number(name, value, is_valid, wanted, "a number or a tensor")
    if value.dtype not in COMPUTE_DTYPES:
        raise TypeError(f"{name}, as a tensor, must be of floating point, but has dtype {value.dtype}")
    return value


def check_number(
    name: str, value: float, is_valid: Callable[[float], bool], wanted: str, kinds: str = "a number"
) -> float:
    """Returns a number of any kind, such as numpy's or a Fraction, as a float."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be {kinds}, but is {value!r} of type {type(value).__name__}")
    try:
        number = float(value)
    except OverflowError:  # of a Fraction or an int
        number = math.inf
    if not (is_valid(number) and number < math.inf):
        raise ValueError(f"{name} must be a finite number, {wanted}, but is {value}")
    return number


def check_dim(dim: int) -> int:
    """Returns a whole number of any kind as an int."""
    try:
        if not isinstance(dim, bool):
            return operator.index(dim)
    except TypeError:
        pass
    raise TypeError(f"dim must be a whole number, one dimension of the scores, but is {dim!r}")


def check_scores(scores: Tensor, mask: Tensor | None) -> Tensor | None:
    """Checks both arguments, and returns the mask in the shape of the scores."""
    if not isinstance(scores, Tensor):
        raise TypeError(f"scores must be a torch.Tensor, but is of type {type(scores).__name__}")
    if scores.dtype not in COMPUTE_DTYPES:
        raise TypeError(f"scores must be float16, bfloat16, float32 or float64, but has dtype {scores.dtype}")
    if scores.dim() == 0:
        raise ValueError("scores must have at least one dimension, but has shape ()")
    if mask is None:
        return None
    if not isinstance(mask, Tensor):
        raise TypeError(f"mask must be a torch.Tensor of dtype bool, but is of type {type(mask).__name__}")
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must have dtype bool (true where a score counts), but has dtype {mask.dtype}")
    return expand_to(scores.shape, "mask", mask)


def expand_to(shape: Sequence[int], name: str, tensor: Tensor) -> Tensor:
    try:
        return tensor.expand(shape)
    except RuntimeError:
        raise ValueError(
            f"{name} must broadcast to the shape {tuple(shape)}, but has shape {tuple(tensor.shape)}"
        ) from None


def included_positions(scores: Tensor, mask: Tensor | None) -> Tensor:
    """
    Where the optimization problem has a variable: where `mask` is true and the score is not -inf.
    Checks `scores` and `mask` on the way. Shape: that of `scores`, dtype bool.
    """
    mask = check_scores(scores, mask)
    included = scores != -math.inf
    return included if mask is None else included & mask


def to_rows(tensor: Tensor, dim: int) -> Tensor:
    """`tensor` as a contiguous matrix whose rows lay along `dim`."""
    if dim not in (-1, tensor.dim() - 1):
        tensor = tensor.movedim(dim, -1)
    elif tensor.dim() == 2:
        return tensor.contiguous()
    return tensor.reshape(math.prod(tensor.shape[:-1]), tensor.size(-1)).contiguous()


def from_rows(rows: Tensor, shape: torch.Size, dim: int) -> Tensor:
    """The inverse of `to_rows`, for a tensor of the given shape."""
    if dim in (-1, len(shape) - 1):
        return rows if len(shape) == 2 else rows.view(shape)
    moved = list(shape)
    moved.append(moved.pop(dim))
    return rows.view(moved).movedim(-1, dim)


def check_offsets(offsets: Tensor | None, scores: Tensor, dim: int) -> Tensor | None:
    """On the CPU, the solvers look at the numbers too. Elsewhere that would wait for the device."""
    if offsets is None:
        return None
    if not isinstance(offsets, Tensor):
        raise TypeError(f"offsets must be a torch.Tensor of dtype int64, but is of type {type(offsets).__name__}")
    if offsets.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"offsets must have dtype int64 (where each row begins), but has dtype {offsets.dtype}")
    if offsets.dim() != 1 or offsets.numel() == 0:
        raise ValueError(f"offsets must have the shape (num_rows + 1,), but has shape {tuple(offsets.shape)}")
    if offsets.device != scores.device:
        raise ValueError(f"offsets must be on the device of the scores, {scores.device}, but is on {offsets.device}")
    return offsets.long()


def require_dense(name: str, offsets: Tensor | None) -> None:
    if offsets is not None:
        raise ValueError(f"{name} takes no packed rows: offsets must be None, and shorter rows padded, with a mask")


class Rows:
    """Sums and the like over the rows that lie along the last dimension, dense or packed."""

    def __init__(self, offsets: Tensor | None = None, num_entries: int = 0) -> None:
        self.offsets = offsets
        if offsets is not None:
            # Of each entry, the number of its row.
            self.numbers = torch.repeat_interleave(offsets.diff(), output_size=num_entries)

    def sum(self, entries: Tensor) -> Tensor:
        if self.offsets is None:
            return entries.sum(-1, keepdim=True)
        sums = entries.new_zeros(*entries.shape[:-1], self.offsets.numel() - 1)
        return sums.index_add(-1, self.numbers, entries)

    def amax(self, entries: Tensor) -> Tensor:
        """Without a gradient; -inf for a row of no entries."""
        entries = entries.detach()
        if self.offsets is None:
            if entries.size(-1) == 0:
                return entries.new_full((*entries.shape[:-1], 1), -math.inf)
            return entries.amax(-1, keepdim=True)
        lowest = entries.new_full((*entries.shape[:-1], self.offsets.numel() - 1), -math.inf)
        return lowest.scatter_reduce(-1, self.numbers.expand(entries.shape), entries, "amax")

    @overload
    def spread(self, of_rows: Tensor) -> Tensor: ...

    @overload
    def spread(self, of_rows: float | Tensor) -> float | Tensor: ...

    def spread(self, of_rows: float | Tensor) -> float | Tensor:
        """What belongs to the rows, for each of their entries: in a shape that broadcasts to these."""
        if self.offsets is None or not isinstance(of_rows, Tensor):
            return of_rows
        return of_rows.index_select(-1, self.numbers)


def sum_of_rows(entries: Tensor, dim: int, offsets: Tensor | None = None) -> Tensor:
    """
    The sums of the rows along `dim`, which the result does not have; of packed ones it has `num_rows` in the place of
    the entries.
    """
    if offsets is None:
        return entries.sum(dim)
    return Rows(offsets, entries.size(dim)).sum(entries.movedim(dim, -1)).movedim(-1, dim)


def spread_to_entries(of_rows: Tensor, dim: int, num_entries: int, offsets: Tensor | None = None) -> Tensor:
    """The derivative of `sum_of_rows`: what belongs to the rows, in a shape that broadcasts to their entries."""
    if offsets is None:
        return of_rows.unsqueeze(dim)
    return Rows(offsets, num_entries).spread(of_rows.movedim(dim, -1)).movedim(-1, dim)


def expand_parameter(
    name: str, parameter: float | Tensor, scores: Tensor, dim: int, offsets: Tensor | None = None
) -> float | Tensor:
    """
    A parameter of the rows of `scores` along `dim`: a number as it is; a tensor, which must broadcast to the shape of
    `scores` with size 1 at `dim`, or the number of packed rows, in that shape and in the dtype that `scores` are
    computed in.
    """
    if not isinstance(parameter, Tensor):
        return parameter
    shape = list(scores.shape)
    shape[dim] = 1 if offsets is None else offsets.numel() - 1
    return expand_to(shape, name, parameter).to(COMPUTE_DTYPES[scores.dtype])


def parameter_rows(
    name: str, parameter: float | Tensor, scores: Tensor, dim: int, offsets: Tensor | None = None
) -> float | Tensor:
    """The same, a tensor having the shape (num_rows, 1), or (num_copies, num_rows) for packed rows."""
    expanded = expand_parameter(name, parameter, scores, dim, offsets)
    return to_rows(expanded, dim) if isinstance(expanded, Tensor) else expanded


def scaled(scores: Tensor, gamma: float | Tensor, dim: int = -1, offsets: Tensor | None = None) -> Tensor:
    """
    (x - max x) / gamma for each row x along `dim`. A row with nothing in it is all -inf. A row with NaN or +inf in it,
    or with a gamma that is not a finite number above 0, is NaN where it is not -inf.

    # Parameters

    scores : float32 or float64, -inf at positions that are not in the problem.
    gamma : a number, or a tensor that broadcasts to `scores` with size 1 at `dim`; of packed rows, which lie along the
        last dimension, in the shape of what belongs to them.
    """
    excluded = scores == -math.inf
    present = scores.masked_fill(excluded, 0.0)
    if scores.size(dim) > 0:
        if offsets is None:
            maximum = scores.detach().amax(dim, keepdim=True)
        else:
            rows = Rows(offsets, scores.size(dim))
            gamma, maximum = rows.spread(gamma), rows.spread(rows.amax(scores))
        # +inf as the maximum would make -inf of all else: there is no solution, for the whole row.
        maximum = maximum.masked_fill(maximum == -math.inf, 0.0).masked_fill(maximum == math.inf, math.nan)
        present = present - maximum
    # What overflows is low, but not -inf: that is not in the problem at all.
    limits = torch.finfo(scores.dtype)
    if not isinstance(gamma, Tensor):
        divisor = min(max(gamma, limits.tiny), limits.max)  # beyond, the scores' dtype would make 0 or infinity of it
        quotient = present / divisor
        return quotient.masked_fill(quotient < limits.min, limits.min).masked_fill(excluded, -math.inf)
    divisors = gamma.where((gamma > 0) & (gamma < math.inf), math.nan)
    # For the derivative by gamma the quotient is divided by it once more.
    too_low = (present / divisors).detach() < limits.min * divisors.detach().clamp(max=1)
    quotient = present.masked_fill(too_low, 0.0) / divisors
    return quotient.masked_fill(too_low, limits.min).masked_fill(excluded, -math.inf)


def solve_rows(
    solver: Callable[..., Tensor], scores: Tensor, mask: Tensor | None, dim: int, **parameters: float | Tensor
) -> Tensor:
    """
    Apply `solver` to the rows of `scores` along `dim`.

    # Parameters

    solver : takes scores of shape (num_rows, row_length), contiguous, float32 or float64, -inf at every position that
        is not in the problem, and the parameters by name, each a number or a tensor of shape (num_rows, 1); returns
        the weights in the shape and dtype of the scores it takes.
    parameters : numbers, or tensors that broadcast to the shape of `scores` with size 1 at `dim`.

    # Returns

    The weights, in the shape and dtype of `scores`.
    """
    dim, included = check_dim(dim), included_positions(scores, mask)
    problem = scores.to(COMPUTE_DTYPES[scores.dtype]).masked_fill(~included, -math.inf)
    by_row = {name: parameter_rows(name, parameter, scores, dim) for name, parameter in parameters.items()}
    return from_rows(solver(to_rows(problem, dim), **by_row), scores.shape, dim).to(scores.dtype)


def solve_problems(
    solver: Callable[..., Tensor],
    scores: Tensor,
    mask: Tensor | None,
    dim: int,
    gamma: float | Tensor,
    offsets: Tensor | None = None,
    **parameters: float | Tensor,
) -> Tensor:
    """
    Apply `solver`, which knows gamma and masks, to the rows of `scores` along `dim`, dense or packed.

    # Parameters

    solver : takes scores as a contiguous matrix, in their dtype; a mask in that shape, or None; gamma, a number; the
        offsets, or None; and the parameters by name, each a number or a tensor of one for each row; returns the
        weights in the shape of the scores it takes.
    parameters : numbers, or tensors as `parameter_rows` takes them.

    # Returns

    The weights, in the shape and dtype of `scores`.
    """
    dim, mask = check_dim(dim), check_scores(scores, mask)
    offsets = check_offsets(offsets, scores, dim)
    by_row = {name: parameter_rows(name, parameter, scores, dim, offsets) for name, parameter in parameters.items()}
    if isinstance(gamma, Tensor):
        # The solvers take one gamma for all rows: here each row is divided by its own, and autograd sees it.
        problem = scores.to(COMPUTE_DTYPES[scores.dtype])
        problem = to_rows(problem if mask is None else problem.masked_fill(~mask, -math.inf), dim)
        problem = scaled(problem, parameter_rows("gamma", gamma, scores, dim, offsets), offsets=offsets)
        weights = solver(problem, None, 1.0, offsets, **by_row)
    else:
        weights = solver(to_rows(scores, dim), None if mask is None else to_rows(mask, dim), gamma, offsets, **by_row)
    return from_rows(weights.to(scores.dtype), scores.shape, dim)
