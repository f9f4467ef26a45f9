from typing import Optional

import torch
from allennlp.common.checks import ConfigurationError


def squared_distances(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """
    |x_i - y_j|^2 for vectors x of shape (..., n, dim) and y of shape (..., m, dim). Shape of the result: (..., n, m).
    """
    # Nearer to 0 the squares are exacter. What is subtracted from both sets changes no distance.
    centre = first.detach().mean(dim=-2, keepdim=True)
    first, second = first - centre, second - centre
    squares = first.square().sum(dim=-1).unsqueeze(-1) + second.square().sum(dim=-1).unsqueeze(-2)
    return (squares - 2 * first @ second.transpose(-1, -2)).clamp(min=0)


def relative_squared_distances(
    queries: torch.Tensor, keys: torch.Tensor, mass: torch.Tensor, scale: Optional[float]
) -> torch.Tensor:
    """
    The squared distances between queries and keys, between queries and between keys, with `scale` as their unit; if it
    is `None`, their mean over all pairs of points of the two sets together. What is computed of these then is the same
    for vectors twice as long, and so it cannot be lowered by shrinking all of them.

    # Parameters

    queries, keys, mass
        As of `AlignmentRegularizer.distances`.

    # Returns

    `torch.Tensor`
        Shape (3, batch_size, num_heads, num_tokens, num_tokens).
    """
    firsts, seconds = torch.stack([queries, queries, keys]), torch.stack([keys, queries, keys])
    squares = squared_distances(firsts, seconds)
    if scale is not None:
        return squares / scale
    # Shape: (3, batch_size, num_heads)
    between_sets, among_queries, among_keys = expected(squares, mass)
    mean = (2 * between_sets + among_queries + among_keys) / 4
    # All points may be one and the same: all distances are then 0, by any scale.
    return squares / mean.clamp(min=torch.finfo(mean.dtype).tiny)[..., None, None]


def expected(matrix: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
    """
    The expectation of a matrix of shape (..., batch_size, num_heads, num_tokens, num_tokens) over independent rows and
    columns. Shape: (..., batch_size, num_heads).
    """
    return ((matrix * mass[:, None, None, :]).sum(dim=-1) * mass[:, None, :]).sum(dim=-1)


def require_positive_scale(scale: Optional[float]) -> Optional[float]:
    """The scale, or a `ConfigurationError`."""
    if scale is not None and scale <= 0:
        raise ConfigurationError(f'"scale" must be above 0, but is {scale}')
    return scale
