"""The penalties that draw weights together, along the last dimension, and their subgradients."""

import torch
from torch import Tensor

from regattn_allennlp.operators.rows import Rows


def total_variation(weights: Tensor, included: Tensor, rows: Rows) -> Tensor:
    """
    sum_i |p[i + 1] - p[i]| of the `rows`, neighbours being those with no other `included` position between them.
    """
    order, are_neighbours = _neighbours(included, rows)
    steps = weights.gather(-1, order).diff(dim=-1).abs() * are_neighbours
    return rows.sum(torch.zeros_like(weights).scatter(-1, order[..., 1:], steps))


def total_variation_gradient(weights: Tensor, included: Tensor, rows: Rows) -> Tensor:
    """The subgradient of `total_variation` in which the sign of 0 is 0."""
    order, are_neighbours = _neighbours(included, rows)
    rises = weights.gather(-1, order).diff(dim=-1).sign() * are_neighbours
    return torch.zeros_like(weights).scatter(-1, order, -torch.nn.functional.pad(rises, (1, 1)).diff(dim=-1))


def total_variation_of_vertices(included: Tensor, rows: Rows) -> Tensor:
    """`total_variation` where one position has all the weight, for each: how many neighbours it has."""
    ranks = included.cumsum(-1)
    if rows.offsets is not None:
        ends = torch.nn.functional.pad(ranks, (1, 0)).index_select(-1, rows.offsets)
        first, last = rows.spread(ends[..., :-1]) + 1, rows.spread(ends[..., 1:])
        return (ranks > first).long() + (ranks < last)
    return (ranks > 1).long() + (ranks < ranks[..., -1:])


def _neighbours(included: Tensor, rows: Rows) -> tuple[Tensor, Tensor]:
    """The order that brings the included positions to the front, and which of its steps are between two of a row."""
    order = included.logical_not().to(torch.uint8).argsort(dim=-1, stable=True)
    are_neighbours = included.gather(-1, order)[..., 1:]
    if rows.offsets is not None:
        are_neighbours = are_neighbours & (rows.numbers[order].diff(dim=-1) == 0)
    return order, are_neighbours


def pairwise_maxima(weights: Tensor, included: Tensor, rows: Rows) -> Tensor:
    """sum_{i < j} max(p_i, p_j) over the `included` positions of the `rows`."""
    # The k-th largest weight is the larger one of its pairs with all that come after it.
    return rows.sum(weights * pairwise_maxima_gradient(weights.detach(), included, rows))


def pairwise_maxima_gradient(weights: Tensor, included: Tensor, rows: Rows) -> Tensor:
    """A subgradient of `pairwise_maxima`: of how many others a weight is the larger, equal ones in any order."""
    order = weights.argsort(dim=-1, descending=True)
    ranks = torch.arange(1, weights.size(-1) + 1, device=weights.device)
    if rows.offsets is not None:
        order = order.gather(-1, rows.numbers[order].argsort(dim=-1, stable=True))
        ranks = ranks - rows.offsets[:-1].index_select(-1, rows.numbers)
    num_smaller = (rows.spread(rows.sum(included.to(torch.int64))) - ranks).clamp(min=0)
    return torch.zeros_like(weights).scatter(-1, order, num_smaller.to(weights.dtype))


def pairwise_maxima_of_vertices(included: Tensor, rows: Rows) -> Tensor:
    """`pairwise_maxima` where one position has all the weight, for each: how many others there are."""
    counts = rows.spread(rows.sum(included.to(torch.int64)))
    return (counts - 1).clamp(min=0).expand(included.shape)
