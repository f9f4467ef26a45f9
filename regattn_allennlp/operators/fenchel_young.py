import math
from typing import Any, Optional

import torch
from torch import Tensor

from regattn_allennlp.operators.entmax import Entmax
from regattn_allennlp.operators.functions import is_plain, overridable
from regattn_allennlp.operators.nested import Jagged
from regattn_allennlp.operators.regularized_max import RegularizedMax
from regattn_allennlp.operators.rows import (
    COMPUTE_DTYPES,
    Rows,
    check_number,
    check_offsets,
    check_scores,
    expand_to,
    from_rows,
    included_positions,
    spread_to_entries,
    sum_of_rows,
    to_rows,
)

REDUCTIONS = ("mean", "sum", "none")

# The alphas of `entmax` for which `kernels.losses` has the loss of an index.
KERNEL_ALPHAS = (1.0, 1.5, 2.0)

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
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    offsets: Tensor | None = None,
) -> Tensor:
    """
    The loss that belongs to a regularized max operator (Blondel, Martins & Niculae 2020, arXiv 1901.02324, section 3):
    for scores x and a target y, a point of the simplex,

        L(x; y) = max_Omega(x) + gamma * Omega(y) - <x, y>

    which is convex in x, at least 0, 0 exactly if y is the operator's weights, and has the gradient

        weights - y.

    Softmax's is cross-entropy, less the target's own entropy where that is not 0; sparsemax's is the sparsemax loss
    (Martins & Astudillo 2016, arXiv 1602.02068). Operators with sparse weights reach 0 at finite scores.

    Class weights w and smoothing s are those of `torch.nn.functional.cross_entropy`, for every operator. With L(x; k)
    the loss of the class k and n the number of classes in the problem, an index k has the loss

        (1 - s) * w_k * L(x; k)  +  s / n * sum_j w_j * L(x; j)

    and in place of the first term a distribution y has (1 - s) * b * L(x; w * y / b), b the sum of w * y.

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
        is for other weights that the operator cannot give: a class index where none may have more than 0.3. Smoothing
        is over the other classes alone.
    reduction : str, optional (default = "mean")
        "mean", "sum", or "none": then the result has the shape of `scores` without `dim`. Rows that are ignored, or
        have nothing in the problem, have loss 0 and gradient 0 whatever their target is, and do not count for the
        mean; the mean over no rows is 0 too (PyTorch's cross-entropy gives NaN), so that an empty batch adds nothing.
        With `weight` the mean over indices is the sum divided by that of the targets' weights; if these are all 0, so
        is the mean.
    ignore_index : int, optional (default = -100)
        Rows with this index are ignored.
    weight : Tensor, optional
        w, floating point and of shape (num_classes,): finite numbers not below 0.
    label_smoothing : float, optional (default = 0.0)
        s, from 0 to 1.
    offsets : Tensor, optional
        Where packed rows begin: see `RegularizedMax.forward`. An index counts from the beginning of its row, and there
        is one for each row at `dim`; so are the losses. There is no `weight` then: rows do not share their classes.

    # Raises

    TypeError for a target or weight that is of no such dtype; ValueError for one that does not have its shape, and for
    a smoothing that is not from 0 to 1; and, on the CPU, ValueError for an index that is not in 0 to the number of
    classes, for distributions with negative or non-finite entries or that do not sum to 1, and for such weights.
    Elsewhere, and in compiled or transformed functions, values are not looked at, because that would wait for the
    device; a row with such an index has loss NaN.
    """
    _check_reduction(reduction)
    _check_operator(regularized_max)
    smoothing = _check_label_smoothing(label_smoothing, regularized_max)
    if isinstance(scores, Tensor) and scores.is_nested:
        jagged = Jagged(scores)
        dim, is_along = jagged.dim(regularized_max.dim)
        scores, mask, target = scores.values(), jagged.pack("mask", mask), jagged.pack("target", target)
        regularized_max, offsets = regularized_max.along(dim), jagged.offsets if is_along else None
    mask = check_scores(scores, mask)
    dim = regularized_max.dim
    offsets = check_offsets(offsets, scores, dim)
    is_index = _check_kind_and_shape(target, scores, dim, offsets)
    _check_weight(weight, scores.size(dim), offsets)
    if is_index:
        losses, counts = _losses_of_indices(
            scores, mask, target, ignore_index, weight, smoothing, regularized_max, offsets
        )
    else:
        losses, counts = _losses_of_distributions(scores, mask, target, weight, smoothing, regularized_max, offsets)
    if reduction == "none":
        return losses.to(scores.dtype)
    total = losses.sum()
    if reduction == "mean":
        count = counts.sum()
        total = (total / count.where(count != 0, 1)).where(count != 0, 0)
    return total.to(scores.dtype)


def _losses_of_indices(
    scores: Tensor,
    mask: Tensor | None,
    target: Tensor,
    ignore_index: int,
    weight: Tensor | None,
    smoothing: float,
    regularized_max: RegularizedMax,
    offsets: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The losses of the rows, and what each counts in the mean."""
    dim, num_classes = regularized_max.dim, scores.size(regularized_max.dim)
    dtype = regularized_max.compute_dtype(scores)
    lengths: Any = num_classes
    if offsets is not None:
        lengths = _along(offsets.diff(), target, dim)
    # (Rows of no entries are padding, whatever their target is.)
    is_ignored, in_range = target == ignore_index, ((target >= 0) & (target < lengths)) | (lengths == 0)
    _check_index(target, in_range | is_ignored, lengths)
    if num_classes == 0:
        return sum_of_rows(scores, dim, offsets).to(dtype), sum_of_rows(scores, dim, offsets).detach()

    index = target.clamp(min=0).minimum(torch.as_tensor(lengths, device=target.device) - 1)
    counts = (
        torch.ones_like(index, dtype=dtype)
        if weight is None
        else weight.gather(0, index.flatten()).view(index.shape).to(dtype)
    )
    arguments = scores, mask, index.masked_fill(is_ignored, -1), (1 - smoothing) * counts, weight, smoothing
    gamma, alpha = regularized_max.gamma, regularized_max.entmax_alpha()
    if offsets is None and _has_kernel(gamma, alpha, weight, scores, mask, target):
        losses, counted = _KernelLosses.apply(*arguments, gamma, alpha, dim)
        losses = losses.to(dtype)
    else:
        losses, counted = _losses_by_operator(*arguments, regularized_max, offsets)

    place = _place(index, scores, dim, offsets)
    outside = scores.detach().gather(dim, place) == -math.inf
    if mask is not None:
        outside = outside | ~mask.gather(dim, place)
    outside = _of_rows(outside, dim, offsets)
    if type(regularized_max).attains is not RegularizedMax.attains:
        vertices = scores.new_zeros(scores.shape, dtype=dtype).scatter(dim, place, 1.0)
        attained = regularized_max.attains(vertices, included_positions(scores, mask), SUM_TOLERANCES[dtype])
        outside = outside if attained is None else outside | ~attained
    losses = losses + _infinite_where(outside & ((1 - smoothing) * counts.detach() > 0), losses)
    losses = losses.masked_fill(~in_range, math.nan).masked_fill(~counted, 0.0)
    return losses, counts.masked_fill(~counted, 0.0)


def _place(index: Tensor, scores: Tensor, dim: int, offsets: Tensor | None) -> Tensor:
    """Where the scores of the indices are along `dim`. Those below 0 count as 0."""
    index = index.clamp(min=0)
    if offsets is None:
        return index.unsqueeze(dim)
    return (index + _along(offsets[:-1], index, dim)).clamp(max=scores.size(dim) - 1)


def _of_rows(gathered: Tensor, dim: int, offsets: Tensor | None) -> Tensor:
    """What is gathered at a `_place` in each row, in the shape of a value."""
    return gathered.squeeze(dim) if offsets is None else gathered


def _losses_by_operator(
    scores: Tensor,
    mask: Tensor | None,
    index: Tensor,
    target_weights: Tensor,
    class_weights: Tensor | None,
    smoothing: float,
    regularized_max: RegularizedMax,
    offsets: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """
    The losses of indices, and which rows have one: those with an index below 0, and with nothing in the problem, have
    not. Finite for a class outside of the problem: as if its score were the largest.
    """
    dim = regularized_max.dim
    packed = () if offsets is None else (offsets,)
    present, included = _present_scores(scores, mask, regularized_max, index >= 0, offsets)
    value = regularized_max.value(present, included, *packed)
    place = _place(index, scores, dim, offsets)
    omega = regularized_max.omega_at(place, included, present.dtype, *packed)
    omega = _of_rows(omega, dim, offsets) if isinstance(omega, Tensor) else omega
    gamma: Any = regularized_max.by_row(regularized_max.gamma, scores, offsets)
    losses = target_weights * (value + gamma * omega - _of_rows(present.gather(dim, place), dim, offsets))
    if smoothing > 0:
        losses = losses + _smoothing_losses(
            value, present, included, class_weights, smoothing, regularized_max, offsets
        )
    return _not_below_0(losses), _is_any_in_row(included, dim, offsets)


def _has_kernel(gamma: float | Tensor, alpha: float | None, weight: Tensor | None, *tensors: Tensor | None) -> bool:
    """Whether `_KernelLosses` can have these losses of indices."""
    return (
        alpha in KERNEL_ALPHAS
        and not isinstance(gamma, Tensor)
        and all(tensor is None or (tensor.device.type == "cpu" and is_plain(tensor)) for tensor in (weight, *tensors))
        and not (weight is not None and weight.requires_grad)
    )


class _KernelLosses(torch.autograd.Function):
    """
    `_losses_by_operator`, for the losses of `entmax` with fixed gamma and alpha, without anything as large as the
    scores but their gradient. Derivatives of that, and transforms of it, are left to `_losses_by_operator`.
    """

    @staticmethod
    def forward(
        ctx: Any,
        scores: Tensor,
        mask: Tensor | None,
        index: Tensor,
        target_weights: Tensor,
        class_weights: Tensor | None,
        smoothing: float,
        gamma: float,
        alpha: float,
        dim: int,
    ) -> tuple[Tensor, Tensor]:
        from regattn_allennlp.operators.kernels import losses as kernels  # compilers take long to import

        rows, mask_rows = to_rows(scores, dim), None if mask is None else to_rows(mask, dim)
        losses, summaries = kernels.loss_rows(
            rows, mask_rows, index.flatten(), target_weights.flatten(), class_weights, smoothing, gamma, alpha
        )
        counted = (summaries[:, 0] != -math.inf).view(index.shape)
        ctx.save_for_backward(scores, mask, index, target_weights, class_weights, summaries)
        ctx.numbers = smoothing, gamma, alpha, dim
        ctx.mark_non_differentiable(counted)
        return losses.view(index.shape), counted

    @staticmethod
    def backward(ctx: Any, upstream: Tensor, _: Any) -> tuple:  # type: ignore[override]
        scores, mask, index, target_weights, class_weights, summaries = ctx.saved_tensors
        smoothing, gamma, alpha, dim = ctx.numbers
        if torch.is_grad_enabled() or not is_plain(upstream):
            with torch.enable_grad():
                losses, _ = _losses_by_operator(
                    scores, mask, index, target_weights, class_weights, smoothing, Entmax(gamma, alpha, dim)
                )
            (gradient,) = torch.autograd.grad(
                losses, scores, upstream.to(losses.dtype), create_graph=torch.is_grad_enabled()
            )
        else:
            from regattn_allennlp.operators.kernels import losses as kernels

            gradient = kernels.loss_gradient_rows(
                to_rows(scores, dim),
                None if mask is None else to_rows(mask, dim),
                index.flatten(),
                target_weights.flatten(),
                class_weights,
                gamma,
                alpha,
                summaries,
                upstream.flatten(),
            )
            gradient = from_rows(gradient, scores.shape, dim)
        return gradient, *(None for _ in range(8))


def _losses_of_distributions(
    scores: Tensor,
    mask: Tensor | None,
    target: Tensor,
    weight: Tensor | None,
    smoothing: float,
    regularized_max: RegularizedMax,
    offsets: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """The losses of the rows, and what each counts in the mean."""
    dim = regularized_max.dim
    packed = () if offsets is None else (offsets,)
    present, included = _present_scores(scores, mask, regularized_max, None, offsets)
    counted = _is_any_in_row(included, dim, offsets)
    total = regularized_max.total(scores, included)
    tolerance = SUM_TOLERANCES[target.dtype]
    _check_distribution(target, included, dim, total, counted, offsets)
    target = target.to(present.dtype)
    if weight is not None:
        target = target * _along(weight.to(present.dtype), scores, dim)

    reachable = target.where(included, 0.0)
    amount: Any = 1.0
    point = reachable
    if weight is not None:  # (of rows that are not packed)
        amount = reachable.sum(dim) / total
        point = reachable / amount.where(amount != 0, 1).unsqueeze(dim)
    value = regularized_max.value(present, included, *packed)
    gamma: Any = regularized_max.by_row(regularized_max.gamma, scores, offsets)
    omega = regularized_max.omega(point, included, *packed)
    losses = amount * (value + gamma * omega) - sum_of_rows(present * reachable, dim, offsets)
    if smoothing > 0:
        added = _smoothing_losses(value, present, included, weight, smoothing, regularized_max, offsets)
        losses = (1 - smoothing) * losses + added
    losses = _not_below_0(losses)
    if smoothing < 1:
        outside = _is_any_in_row((target.detach() != 0) & ~included, dim, offsets)
        attained = regularized_max.attains(point.detach(), included, tolerance)
        if attained is not None:
            outside = outside | ~attained
        losses = losses + _infinite_where(outside, losses)
    return losses.masked_fill(~counted, 0.0), counted.to(losses.dtype)


def _is_any_in_row(condition: Tensor, dim: int, offsets: Tensor | None) -> Tensor:
    return condition.any(dim) if offsets is None else sum_of_rows(condition.to(torch.int64), dim, offsets) > 0


def _smoothing_losses(
    value: Tensor,
    present: Tensor,
    included: Tensor,
    class_weights: Tensor | None,
    smoothing: float,
    regularized_max: RegularizedMax,
    offsets: Tensor | None,
) -> Tensor:
    """smoothing / n * sum_k w_k * L(x; k), over the n classes in the problem."""
    dim = regularized_max.dim
    num_classes = sum_of_rows(included.to(present.dtype), dim, offsets).clamp(min=1)
    shares = spread_to_entries(smoothing / num_classes, dim, present.size(dim), offsets)
    if class_weights is not None:
        shares = shares * _along(class_weights.to(present.dtype), present, dim)
    shares = shares.where(included, 0)
    classes = _along(torch.arange(present.size(dim), device=present.device), present, dim).expand(present.shape)
    packed = () if offsets is None else (offsets,)
    omegas = regularized_max.omega_at(classes, included, present.dtype, *packed)
    gamma: Any = regularized_max.by_row(regularized_max.gamma, present, offsets)
    share_of_row = sum_of_rows(shares, dim, offsets)
    omega, score = sum_of_rows(shares * omegas, dim, offsets), sum_of_rows(shares * present, dim, offsets)
    return share_of_row * value + gamma * omega - score


def _present_scores(
    scores: Tensor,
    mask: Tensor | None,
    regularized_max: RegularizedMax,
    looked_at: Tensor | None = None,
    offsets: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """
    The scores less the row's largest, 0 where they are not in the problem, and where they are: not in rows that are
    not looked at. The loss does not change with a constant added to the scores, but large ones would take its digits.
    """
    dim = regularized_max.dim
    included = included_positions(scores, mask)
    if looked_at is not None:
        included = included & spread_to_entries(looked_at, dim, scores.size(dim), offsets)
    problem = scores.to(regularized_max.compute_dtype(scores)).where(included, -math.inf)
    if scores.size(dim):
        largest = Rows(offsets, scores.size(dim)).amax(problem.movedim(dim, -1))
        largest = largest.movedim(-1, dim)
        if offsets is not None:
            largest = spread_to_entries(largest, dim, scores.size(dim), offsets)
        problem = problem - largest.masked_fill(largest == math.inf, math.nan)  # there is no solution
    present = problem.where(included, 0.0)
    # (Nor may a low score become -inf: that is not in the problem.)
    return present.masked_fill(present == -math.inf, torch.finfo(present.dtype).min), included


def _not_below_0(losses: Tensor) -> Tensor:
    """Not by a rounding error, which must not change the gradient."""
    return losses - losses.detach().clamp(max=0)


def _infinite_where(condition: Tensor, losses: Tensor) -> Tensor:
    """To be added to the losses, whose gradient stays finite."""
    return torch.zeros_like(losses).masked_fill(condition, math.inf)


def _along(of_classes: Tensor, scores: Tensor, dim: int) -> Tensor:
    """A tensor of one number for each class, in a shape that broadcasts to the scores."""
    shape = [1] * scores.dim()
    shape[dim] = -1
    return of_classes.view(shape)


def _check_reduction(reduction: str) -> None:
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, but is {reduction!r}")


def _check_operator(regularized_max: RegularizedMax) -> None:
    if not isinstance(regularized_max, RegularizedMax):
        raise TypeError(f"regularized_max must be an operator such as Sparsemax(), but is {regularized_max!r}")


def _check_label_smoothing(label_smoothing: float, regularized_max: RegularizedMax) -> float:
    smoothing = check_number("label_smoothing", label_smoothing, lambda value: 0 <= value <= 1, "from 0 to 1")
    if smoothing > 0 and not regularized_max.reaches_vertices():
        raise ValueError(
            f"label_smoothing must be 0 for {type(regularized_max).__name__}, which may not give one class all the "
            f"weight, but is {label_smoothing}"
        )
    return smoothing


def _check_weight(weight: Tensor | None, num_classes: int | None = None, offsets: Tensor | None = None) -> None:
    if weight is None:
        return
    if offsets is not None:
        raise ValueError("weight must be None for packed rows, which do not share their classes")
    if not isinstance(weight, Tensor):
        raise TypeError(f"weight must be a torch.Tensor, but is of type {type(weight).__name__}")
    if weight.dtype not in COMPUTE_DTYPES:
        raise TypeError(f"weight must be of floating point, but has dtype {weight.dtype}")
    if weight.dim() != 1 or (num_classes is not None and len(weight) != num_classes):
        wanted = "(num_classes,)" if num_classes is None else f"({num_classes},)"
        raise ValueError(f"weight must have one number for each class, shape {wanted}, but has {tuple(weight.shape)}")
    valid = (weight >= 0) & (weight < math.inf)
    if _is_known_to_fail(valid):
        raise ValueError(f"weight must be of finite numbers not below 0, but has {weight.detach()[~valid][0].item()}")


def _check_kind_and_shape(target: Tensor, scores: Tensor, dim: int, offsets: Tensor | None) -> bool:
    """Whether the target is of class indices."""
    if not isinstance(target, Tensor):
        raise TypeError(f"target must be a torch.Tensor, but is of type {type(target).__name__}")
    if target.dtype != torch.int64 and target.dtype not in COMPUTE_DTYPES:
        raise TypeError(
            f"target must be int64 (class indices) or floating point (distributions), but has dtype {target.dtype}"
        )
    expected = list(scores.shape)
    if target.dtype == torch.int64:
        if offsets is None:
            expected.pop(dim)
        else:
            expected[dim] = offsets.numel() - 1
        kind = "of class indices (int64)"
    else:
        kind = "of distributions (floating point)"
    if list(target.shape) != expected:
        raise ValueError(
            f"a target {kind} must have the shape {tuple(expected)} for scores of shape {tuple(scores.shape)} "
            f"and dim {dim}, but has shape {tuple(target.shape)}"
        )
    return target.dtype == torch.int64


def _check_index(target: Tensor, valid: Tensor, lengths: int | Tensor) -> None:
    if _is_known_to_fail(valid):
        wrong = target[~valid][0].item()
        length = lengths.expand(target.shape)[~valid][0].item() if isinstance(lengths, Tensor) else lengths
        raise ValueError(f"target must be a class index from 0 to {length - 1} (or ignore_index), but has {wrong}")


def _check_distribution(
    target: Tensor, included: Tensor, dim: int, total: float | Tensor, counted: Tensor, offsets: Tensor | None
) -> None:
    # Rows with nothing in the problem are not looked at: they are padding.
    counted_entries = spread_to_entries(counted, dim, target.size(dim), offsets)
    valid = ((target >= 0) & (target < math.inf)) | ~expand_to(target.shape, "target", counted_entries)
    if _is_known_to_fail(valid):
        wrong = target.detach()[~valid][0].item()
        raise ValueError(f"target must be a distribution, of finite numbers not below 0, but has {wrong}")
    sums = sum_of_rows(
        target.detach().to(torch.float64 if target.device.type == "cpu" else torch.float32), dim, offsets
    )
    totals = total if isinstance(total, Tensor) else sums.new_full(sums.shape, total)
    valid = ((sums - totals).abs() <= SUM_TOLERANCES[target.dtype] * totals.clamp(min=1)) | ~counted
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
    reduction, ignore_index, weight, label_smoothing
        See `fenchel_young_loss`. The weight is a buffer.
    """

    weight: Tensor | None

    def __init__(
        self,
        regularized_max: RegularizedMax,
        reduction: str = "mean",
        ignore_index: int = -100,
        weight: Tensor | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        _check_operator(regularized_max)
        _check_reduction(reduction)
        _check_weight(weight)
        self.regularized_max = regularized_max
        self.reduction = reduction
        self.ignore_index = ignore_index
        self.register_buffer("weight", weight)
        self.label_smoothing = _check_label_smoothing(label_smoothing, regularized_max)

    def extra_repr(self) -> str:
        numbers = f"reduction={self.reduction!r}, ignore_index={self.ignore_index}"
        return f"{numbers}, label_smoothing={self.label_smoothing}"

    # (torch.fx of PyTorch 2.6 takes no two annotations `X | None`.)
    def forward(
        self, scores: Tensor, target: Tensor, mask: Optional[Tensor] = None, offsets: Optional[Tensor] = None
    ) -> Tensor:
        return fenchel_young_loss(
            scores,
            target,
            self.regularized_max,
            mask,
            self.reduction,
            self.ignore_index,
            self.weight,
            self.label_smoothing,
            offsets,
        )
