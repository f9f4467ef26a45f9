import math

import torch
from torch import Tensor

from regattn_allennlp.operators.functions import overridable
from regattn_allennlp.operators.nested import takes_jagged
from regattn_allennlp.operators.regularized_max import RegularizedMax
from regattn_allennlp.operators.rows import (
    COMPUTE_DTYPES,
    check_dim,
    check_gamma,
    check_scores,
    expand_parameter,
    scaled,
    sum_of_rows,
)


@overridable
@takes_jagged
def softmax(
    scores: Tensor,
    mask: Tensor | None = None,
    dim: int = -1,
    gamma: float | Tensor = 1.0,
    offsets: Tensor | None = None,
) -> Tensor:
    """
    softmax(x / gamma): the solution of

        argmax_{p in simplex} <p, x> - gamma * sum_i p_i log p_i

    Every weight is above 0. Parameters and errors are those of `RegularizedMax` and its `forward`: `scores` of any
    floating-point dtype and any number of dimensions; `mask` of dtype bool, broadcastable to `scores`, false where
    the weight is 0; `dim` the dimension along which the weights sum to 1; `gamma` > 0, the temperature; `offsets`
    where packed rows begin.

    Returns the weights in the shape and dtype of `scores`.
    """
    gamma = check_gamma(gamma)
    if offsets is not None:
        # For any dense row PyTorch has a softmax. To the solver of entmax, packed or not is the same.
        from regattn_allennlp.operators.entmax import entmax

        return entmax(scores, mask, dim, gamma, 1.0, offsets)
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

    vertex_omega = 0.0

    def forward(self, scores: Tensor, mask: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        return softmax(scores, mask, self.dim, self.gamma, offsets)

    def entmax_alpha(self) -> float:
        return 1.0

    def omega(self, weights: Tensor, mask: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        # The slope at 0 is infinite, which times a change of 0 would be NaN.
        return sum_of_rows(weights * weights.where(weights != 0, 1.0).log(), self.dim, offsets)
