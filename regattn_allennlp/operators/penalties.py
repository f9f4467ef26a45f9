"""The penalties that draw weights together, along the last dimension, and their subgradients."""

import torch
from torch import Tensor


def total_variation(weights: Tensor, included: Tensor) -> Tensor:
    """
    sum_i |p[i + 1] - p[i]|, neighbours being those with no other `included` position between them.
    """
    order, both_included = _neighbours(included)
    return (weights.gather(-1, order).diff(dim=-1).abs() * both_included).sum(-1)


def total_variation_gradient(weights: Tensor, included: Tensor) -> Tensor:
    """The subgradient of `total_variation` in which the sign of 0 is 0."""
    order, both_included = _neighbours(included)
    rises = weights.gather(-1, order).diff(dim=-1).sign() * both_included
    return torch.zeros_like(weights).scatter(-1, order, -torch.nn.functional.pad(rises, (1, 1)).diff(dim=-1))


def total_variation_of_vertices(included: Tensor) -> Tensor:
    """`total_variation` where one position has all the weight, for each: how many neighbours it has."""
    ranks = included.cumsum(-1)
    return (ranks > 1).long() + (ranks < ranks[..., -1:])


def _neighbours(included: Tensor) -> tuple[Tensor, Tensor]:
    """The order that brings the included positions to the front, and which of its steps are between two of them."""
    order = included.logical_not().to(torch.uint8).argsort(dim=-1, stable=True)
    return order, included.gather(-1, order)[..., 1:]


def pairwise_maxima(weights: Tensor, included: Tensor) -> Tensor:
    """sum_{i < j} max(p_i, p_j) over the `included` positions."""
    # The k-th largest weight is the larger one of its pairs with all that come after it.
    decreasing = weights.sort(dim=-1, descending=True).values
    return (decreasing * _smaller_ones(included)).sum(-1)


def pairwise_maxima_gradient(weights: Tensor, included: Tensor) -> Tensor:
    """A subgradient of `pairwise_maxima`: of how many others a weight is the larger, equal ones in any order."""
    order = weights.argsort(dim=-1, descending=True)
    return torch.zeros_like(weights).scatter(-1, order, _smaller_ones(included).to(weights.dtype))


def pairwise_maxima_of_vertices(included: Tensor) -> Tensor:
    """`pairwise_maxima` where one position has all the weight, for each: how many others there are."""
    return (included.sum(-1, keepdim=True) - 1).clamp(min=0).expand(included.shape)


def _smaller_ones(included: Tensor) -> Tensor:
    ranks = torch.arange(1, included.size(-1) + 1, device=included.device)
    return (included.sum(-1, keepdim=True) - ranks).clamp(min=0)
