"""The way in and out that all operators share: arguments checked, masks applied, rows laid out, dtypes restored."""

import math
import operator
from collections.abc import Callable, Sequence
from numbers import Real

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


def expand_parameter(name: str, parameter: float | Tensor, scores: Tensor, dim: int) -> float | Tensor:
    """
    A parameter of the rows of `scores` along `dim`: a number as it is; a tensor, which must broadcast to the shape of
    `scores` with size 1 at `dim`, in that shape and in the dtype that `scores` are computed in.
    """
    if not isinstance(parameter, Tensor):
        return parameter
    shape = list(scores.shape)
    shape[dim] = 1
    return expand_to(shape, name, parameter).to(COMPUTE_DTYPES[scores.dtype])


def parameter_rows(name: str, parameter: float | Tensor, scores: Tensor, dim: int) -> float | Tensor:
    """The same, a tensor having the shape (num_rows, 1)."""
    expanded = expand_parameter(name, parameter, scores, dim)
    return to_rows(expanded, dim) if isinstance(expanded, Tensor) else expanded


def scaled(scores: Tensor, gamma: float | Tensor, dim: int = -1) -> Tensor:
    """
    (x - max x) / gamma for each row x along `dim`. A row with nothing in it is all -inf. A row with NaN or +inf in it,
    or with a gamma that is not a finite number above 0, is NaN where it is not -inf.

    # Parameters

    scores : float32 or float64, -inf at positions that are not in the problem.
    gamma : a number, or a tensor that broadcasts to `scores` with size 1 at `dim`.
    """
    excluded = scores == -math.inf
    present = scores.masked_fill(excluded, 0.0)
    if scores.size(dim) > 0:
        maximum = scores.detach().amax(dim, keepdim=True)
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
