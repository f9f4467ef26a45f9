import math

import torch
from torch import Tensor

from regattn_allennlp.operators.functions import overridable
from regattn_allennlp.operators.regularized_max import RegularizedMax
from regattn_allennlp.operators.rows import (
    COMPUTE_DTYPES,
    check_dim,
    check_gamma,
    check_scores,
    expand_parameter,
    scaled,
)


@overridable
def softmax(scores: Tensor, mask: Tensor | None = None, dim: int = -1, gamma: float | Tensor = 1.0) -> Tensor:
    """
    softmax(x / gamma): the solution of

        argmax_{p in simplex} <p, x> - gamma * sum_i p_i log p_i

    Every weight is above 0. Parameters and errors are those of `RegularizedMax` and its `forward`: `scores` of any
    floating-point dtype and any number of dimensions; `mask` of dtype bool, broadcastable to `scores`, false where
    the weight is 0; `dim` the dimension along which the weights sum to 1; `gamma` > 0, the temperature.

    Returns the weights in the shape and dtype of `scores`.
    """
    gamma = check_gamma(gamma)
    dim, mask = check_dim(dim), check_scores(scores, mask)
    values = scores.to(COMPUTE_DTYPES[scores.dtype])
    if mask is not None:
        values = values.masked_fill(~mask, -math.inf)
    if isinstance(gamma, Tensor) or gamma != 1:
        values = scaled(values, expand_parameter("gamma", gamma, scores, dim), dim)
    excluded = values == -math.inf
    # A row with nothing in it has no softmax: it would give NaN in the weights or in their gradient.
    values = values.masked_fill(excluded.all(dim, keepdim=True), 0.0)
    return torch.softmax(values, dim).masked_fill(excluded, 0.0).to(scores.dtype)


@RegularizedMax.register("softmax")
class Softmax(RegularizedMax):
    """
    `softmax` as a module: Omega(p) = sum_i p_i log p_i, the negative Shannon entropy in nats; `value` is
    gamma * logsumexp(x / gamma).
    """

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        return softmax(scores, mask, self.dim, self.gamma)

    def entmax_alpha(self) -> float:
        return 1.0

    def omega_at(self, positions: Tensor, included: Tensor, dtype: torch.dtype) -> float:
        return 0.0

    def omega(self, weights: Tensor, mask: Tensor | None = None) -> Tensor:
        # The slope at 0 is infinite, which times a change of 0 would be NaN.
        return (weights * weights.where(weights != 0, 1.0).log()).sum(self.dim)
