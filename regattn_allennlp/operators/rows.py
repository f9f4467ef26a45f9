"""The way in and out that all operators share: arguments checked, masks applied, rows laid out, dtypes restored."""

import math
from collections.abc import Callable
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


def check_gamma(gamma: float | Tensor) -> None:
    if not isinstance(gamma, Tensor):
        check_number("gamma", gamma)
        if not 0 < gamma < math.inf:
            raise ValueError(f"gamma must be a finite number above 0, but is {gamma}")
    elif gamma.dtype not in COMPUTE_DTYPES:
        raise TypeError(f"gamma, as a tensor, must be of floating point, but has dtype {gamma.dtype}")


def check_lam(lam: float | Tensor) -> None:
    if not isinstance(lam, Tensor):
        check_number("lam", lam)
        if not 0 <= lam < math.inf:
            raise ValueError(f"lam must be a finite number, 0 or above, but is {lam}")
    elif lam.dtype not in COMPUTE_DTYPES:
        raise TypeError(f"lam, as a tensor, must be of floating point, but has dtype {lam.dtype}")


def check_number(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number or a tensor, but is {value!r} of type {type(value).__name__}")


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


def expand_to(shape: torch.Size, name: str, tensor: Tensor) -> Tensor:
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
    return tensor.reshape(math.prod(tensor.shape[:-1]), tensor.size(-1)).contiguous()


def from_rows(rows: Tensor, shape: torch.Size, dim: int) -> Tensor:
    """The inverse of `to_rows`, for a tensor of the given shape."""
    if dim in (-1, len(shape) - 1):
        return rows.view(shape)
    moved = list(shape)
    moved.append(moved.pop(dim))
    return rows.view(moved).movedim(-1, dim)


def parameter_rows(name: str, parameter: float | Tensor, scores: Tensor, dim: int) -> float | Tensor:
    """
    A parameter of the rows of `scores` along `dim`: a number as it is; a tensor, which must broadcast to the shape of
    `scores` with size 1 at `dim`, in the shape (num_rows, 1) and the dtype that `scores` are computed in.
    """
    if not isinstance(parameter, Tensor):
        return parameter
    shape = list(scores.shape)
    shape[dim] = 1
    rows = to_rows(expand_to(torch.Size(shape), name, parameter), dim)
    return rows.to(COMPUTE_DTYPES[scores.dtype])


def scaled_rows(rows: Tensor, gamma: float | Tensor) -> Tensor:
    """
    (x - max x) / gamma for each row x. A row with nothing in it is all -inf. A row with NaN or +inf in it, or with a
    gamma that is not a finite number above 0, is NaN where it is not -inf.

    # Parameters

    rows : shape (num_rows, row_length), float32 or float64, -inf at positions that are not in the problem.
    gamma : a number, or of shape (num_rows, 1).
    """
    excluded = rows == -math.inf
    present = rows.masked_fill(excluded, 0.0)
    maximum = rows.detach().amax(-1, keepdim=True) if rows.size(-1) else rows.new_zeros(rows.size(0), 1)
    maximum = maximum.masked_fill(maximum == -math.inf, 0.0).masked_fill(maximum == math.inf, math.nan)
    if isinstance(gamma, Tensor):
        gamma = gamma.where((gamma > 0) & (gamma < math.inf), math.nan)
    else:
        limits = torch.finfo(rows.dtype)  # beyond them the rows' dtype would make 0 or infinity of gamma
        gamma = min(max(gamma, limits.tiny), limits.max)
    return ((present - maximum) / gamma).masked_fill(excluded, -math.inf)


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
    included = included_positions(scores, mask)
    problem = scores.to(COMPUTE_DTYPES[scores.dtype]).masked_fill(~included, -math.inf)
    by_row = {name: parameter_rows(name, parameter, scores, dim) for name, parameter in parameters.items()}
    return from_rows(solver(to_rows(problem, dim), **by_row), scores.shape, dim).to(scores.dtype)
