import math
from typing import Any

import torch
from torch import Tensor

from regattn_allennlp.operators.functions import overridable
from regattn_allennlp.operators.regularized_max import RegularizedMax
from regattn_allennlp.operators.rows import COMPUTE_DTYPES, expand_to, included_positions

REDUCTIONS = ("mean", "sum", "none")

# How far from 1 a distribution may sum, of float32 and of half precision: rounding of long rows, not more.
SUM_TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 5e-2}


@overridable
def fenchel_young_loss(
    scores: Tensor,
    target: Tensor,
    regularized_max: RegularizedMax,
    mask: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int = -100,
) -> Tensor:
    """
    The loss that belongs to a regularized max operator (Blondel, Martins & Niculae 2020, arXiv 1901.02324, section 3):
    for scores x and a target y, a point of the simplex,

        L(x; y) = max_Omega(x) + gamma * Omega(y) - <x, y>

    which is convex in x, at least 0, 0 exactly if y is the operator's weights, and has the gradient

        weights - y.

    Softmax's is cross-entropy, less the target's own entropy where that is not 0; sparsemax's is the sparsemax loss
    (Martins & Astudillo 2016, arXiv 1602.02068). Operators with sparse weights reach 0 at finite scores.

    # Parameters

    scores : Tensor
        Any number of dimensions; the operator's `dim` is that of the classes. Half precision is computed in float32.
    target : Tensor
        Either of dtype int64, in the shape of `scores` without the operator's `dim`: the index of the true class; or
        floating point, in the shape of `scores`: a distribution along `dim` (of an operator with a budget, weights
        that sum to that). It may require a gradient, which is right but for a constant in each row, for the target's
        sum is 1: as long as it is made by a softmax or the like.
    regularized_max : RegularizedMax
        What `gamma` and Omega are, and may learn them.
    mask : Tensor, optional
        dtype bool, broadcastable to `scores`; false takes a class out of the problem, as a score of -inf does. Where
        the target gives weight to such a class the loss is +inf, as cross-entropy is; its gradient stays finite. So it
        is for other weights that the operator cannot give: a class index where none may have more than 0.3.
    reduction : str, optional (default = "mean")
        "mean", "sum", or "none": then the result has the shape of `scores` without `dim`. Rows that are ignored, or
        have nothing in the problem, have loss 0 and gradient 0 whatever their target is, and do not count for the
        mean; the mean over no rows is 0 too (PyTorch's cross-entropy gives NaN), so that an empty batch adds nothing.
    ignore_index : int, optional (default = -100)
        Rows with this index are ignored.

    # Raises

    TypeError for a target that is of no such dtype; ValueError for one that does not have its shape; and, on the CPU,
    ValueError for an index that is not in 0 to the number of classes, and for distributions with negative or
    non-finite entries or that do not sum to 1. Elsewhere, and in compiled or transformed functions, values are not
    looked at, because that would wait for the device; a row with such an index has loss NaN.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, but is {reduction!r}")
    if not isinstance(regularized_max, RegularizedMax):
        raise TypeError(f"regularized_max must be an operator such as Sparsemax(), but is {regularized_max!r}")
    dim = regularized_max.dim
    included = included_positions(scores, mask)
    dtype = regularized_max.compute_dtype(scores)
    dim_size = scores.size(dim)
    is_index = _check_kind_and_shape(target, scores, dim)
    tolerance = SUM_TOLERANCES[dtype if is_index else target.dtype]

    if is_index:
        in_range = (target >= 0) & (target < dim_size)
        not_ignored = target != ignore_index
        included = included & not_ignored.unsqueeze(dim)
        _check_index(target, in_range | ~not_ignored, dim_size)
        classes = torch.arange(dim_size, device=scores.device)
        shape = [1] * scores.dim()
        shape[dim] = dim_size
        target = (classes.view(shape) == target.unsqueeze(dim)).to(dtype)
    else:
        _check_distribution(target, included, dim, regularized_max.total(scores, included))
        target = target.to(dtype)
    counted = included.any(dim)

    # The loss does not change with a constant added to the scores, but large ones would take its digits.
    present = scores.to(dtype).masked_fill(~included, 0.0)
    if dim_size:
        largest = present.detach().masked_fill(~included, -math.inf).amax(dim, keepdim=True)
        # (Nor may a low score become -inf: that is not in the problem.)
        lowest = torch.finfo(present.dtype).min
        present = (present - largest).clamp(min=lowest).masked_fill(~included, 0.0)

    reachable = target.masked_fill(~included, 0.0)
    gamma: Any = regularized_max.by_row(regularized_max.gamma, scores)
    omega = regularized_max.omega(reachable, included)
    loss = regularized_max.value(present, included) + gamma * omega - (present * reachable).sum(dim)
    # Not below 0 by a rounding error, which must not change the gradient.
    loss = loss - loss.detach().clamp(max=0)

    outside = (target.detach().masked_fill(included, 0.0) != 0).any(dim)
    attained = regularized_max.attains(reachable.detach(), included, tolerance)
    if attained is not None:
        outside = outside | ~attained
    loss = loss + torch.zeros_like(loss).masked_fill(outside, math.inf)
    if is_index:
        loss = loss.masked_fill(~in_range, math.nan)
    loss = loss.masked_fill(~counted, 0.0)
    if reduction == "none":
        return loss.to(scores.dtype)
    total = loss.sum()
    if reduction == "mean":
        total = total / counted.sum().clamp(min=1)
    return total.to(scores.dtype)


def _check_kind_and_shape(target: Tensor, scores: Tensor, dim: int) -> bool:
    """Whether the target is of class indices."""
    if not isinstance(target, Tensor):
        raise TypeError(f"target must be a torch.Tensor, but is of type {type(target).__name__}")
    if target.dtype != torch.int64 and target.dtype not in COMPUTE_DTYPES:
        raise TypeError(
            f"target must be int64 (class indices) or floating point (distributions), but has dtype {target.dtype}"
        )
    expected = list(scores.shape)
    if target.dtype == torch.int64:
        expected.pop(dim)
        kind = "of class indices (int64)"
    else:
        kind = "of distributions (floating point)"
    if list(target.shape) != expected:
        raise ValueError(
            f"a target {kind} must have the shape {tuple(expected)} for scores of shape {tuple(scores.shape)} "
            f"and dim {dim}, but has shape {tuple(target.shape)}"
        )
    return target.dtype == torch.int64


def _check_index(target: Tensor, valid: Tensor, dim_size: int) -> None:
    if _is_known_to_fail(valid):
        wrong = target[~valid][0].item()
        raise ValueError(f"target must be a class index from 0 to {dim_size - 1} (or ignore_index), but has {wrong}")


def _check_distribution(target: Tensor, included: Tensor, dim: int, total: float | Tensor) -> None:
    # Rows with nothing in the problem are not looked at: they are padding.
    counted = expand_to(target.shape, "target", included.any(dim, keepdim=True))
    valid = ((target >= 0) & (target < math.inf)) | ~counted
    if _is_known_to_fail(valid):
        wrong = target.detach()[~valid][0].item()
        raise ValueError(f"target must be a distribution, of finite numbers not below 0, but has {wrong}")
    sums = target.detach().to(torch.float64 if target.device.type == "cpu" else torch.float32).sum(dim)
    totals = total if isinstance(total, Tensor) else sums.new_full(sums.shape, total)
    valid = ((sums - totals).abs() <= SUM_TOLERANCES[target.dtype] * totals.clamp(min=1)) | ~included.any(dim)
    if _is_known_to_fail(valid):
        wrong, wanted = sums[~valid][0].item(), totals[~valid][0].item()
        raise ValueError(
            f"target must be a distribution, with sum {wanted:.6g} along dim {dim}, but one has sum {wrong:.6g}"
        )


def _is_known_to_fail(valid: Tensor) -> bool:
    """Whether anything is not valid, if to look costs nothing."""
    if torch.compiler.is_compiling() or valid.device.type != "cpu":
        return False
    try:
        return not valid.all()
    except RuntimeError:  # within torch.vmap no single value is known
        return False


class FenchelYoungLoss(torch.nn.Module):
    """
    `fenchel_young_loss` as a module.

    # Parameters

    regularized_max : RegularizedMax
        The operator whose loss this is; a submodule, which may learn.
    reduction, ignore_index
        See `fenchel_young_loss`.
    """

    def __init__(self, regularized_max: RegularizedMax, reduction: str = "mean", ignore_index: int = -100) -> None:
        super().__init__()
        if not isinstance(regularized_max, RegularizedMax):
            raise TypeError(f"regularized_max must be an operator such as Sparsemax(), but is {regularized_max!r}")
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, but is {reduction!r}")
        self.regularized_max = regularized_max
        self.reduction = reduction
        self.ignore_index = ignore_index

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}, ignore_index={self.ignore_index}"

    def forward(self, scores: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        return fenchel_young_loss(scores, target, self.regularized_max, mask, self.reduction, self.ignore_index)
