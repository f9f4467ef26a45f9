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


def check_gamma(gamma: float) -> None:
    _check_number("gamma", gamma)
    if not 0 < gamma < math.inf:
        raise ValueError(f"gamma must be a finite number above 0, but is {gamma}")


def check_lam(lam: float) -> None:
    _check_number("lam", lam)
    if not 0 <= lam < math.inf:
        raise ValueError(f"lam must be a finite number, 0 or above, but is {lam}")


def _check_number(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, but is {value!r} of type {type(value).__name__}")


def included_positions(scores: Tensor, mask: Tensor | None) -> Tensor:
    """
    Where the optimization problem has a variable: where `mask` is true and the score is not -inf.
    Checks `scores` and `mask` on the way. Shape: that of `scores`, dtype bool.
    """
    if not isinstance(scores, Tensor):
        raise TypeError(f"scores must be a torch.Tensor, but is of type {type(scores).__name__}")
    if scores.dtype not in COMPUTE_DTYPES:
        raise TypeError(f"scores must be float16, bfloat16, float32 or float64, but has dtype {scores.dtype}")
    if scores.dim() == 0:
        raise ValueError("scores must have at least one dimension, but has shape ()")
    included = scores != -math.inf
    if mask is None:
        return included
    if not isinstance(mask, Tensor):
        raise TypeError(f"mask must be a torch.Tensor of dtype bool, but is of type {type(mask).__name__}")
    if mask.dtype != torch.bool:
        raise TypeError(f"mask must have dtype bool (true where a score counts), but has dtype {mask.dtype}")
    try:
        mask = mask.expand(scores.shape)
    except RuntimeError:
        raise ValueError(
            f"mask must broadcast to the shape of scores, {tuple(scores.shape)}, but has shape {tuple(mask.shape)}"
        ) from None
    return included & mask


def solve_rows(solver: Callable[[Tensor], Tensor], scores: Tensor, mask: Tensor | None, dim: int) -> Tensor:
    """
    Apply `solver` to the rows of `scores` along `dim`.

    # Parameters

    solver : takes scores of shape (num_rows, row_length), contiguous, float32 or float64, -inf at every position that
        is not in the problem, and returns the weights in the same shape and dtype.

    # Returns

    The weights, in the shape and dtype of `scores`.
    """
    included = included_positions(scores, mask)
    problem = scores.to(COMPUTE_DTYPES[scores.dtype]).masked_fill(~included, -math.inf).movedim(dim, -1)
    # An empty tensor has no rows to solve, and the shape of its rows cannot be inferred.
    weights = solver(problem.reshape(-1, problem.size(-1)).contiguous()) if problem.numel() else problem
    return weights.view(problem.shape).movedim(-1, dim).to(scores.dtype)
