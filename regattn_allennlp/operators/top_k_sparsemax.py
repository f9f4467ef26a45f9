import math
import operator

import torch
from torch import Tensor

from regattn_allennlp.operators.functions import overridable
from regattn_allennlp.operators.regularized_max import RegularizedMax
from regattn_allennlp.operators.rows import (
    COMPUTE_DTYPES,
    check_dim,
    check_gamma,
    expand_parameter,
    included_positions,
    require_dense,
)
from regattn_allennlp.operators.sparsemax import sparsemax
from regattn_allennlp.operators.support_size import support_size


def check_top_k(top_k: int) -> int:
    """Returns a whole number of any kind as an int."""
    try:
        number = operator.index(top_k)
    except TypeError:
        number = None
    if number is None or isinstance(top_k, bool):
        raise TypeError(f"top_k must be a whole number, but is {top_k!r} of type {type(top_k).__name__}")
    if number < 1:
        raise ValueError(f"top_k must be a whole number, 1 or above, but is {top_k}")
    return number


@overridable
def top_k_sparsemax(
    scores: Tensor, mask: Tensor | None = None, dim: int = -1, gamma: float | Tensor = 1.0, top_k: int = 8
) -> Tensor:
    """
    `sparsemax` with at most `top_k` weights that are not 0: the solution of

        argmax_{p in simplex} <p, x> - gamma * 1/2 ||p||^2    where no more than top_k of the p_i are not 0,

    the Euclidean projection of x / gamma on the sparse simplex (Kyrillidis, Becker, Cevher & Koch 2013, arXiv
    1206.1529): sparsemax of the `top_k` largest scores. Where several scores are the last of these, the
    first of them in the row are taken. A row that has no more than `top_k` scores is sparsemax's.

    The largest are selected, not sorted.

    Parameters and errors are those of `RegularizedMax` and its `forward`: `scores` of any floating-point dtype and
    any number of dimensions; `mask` of dtype bool, broadcastable to `scores`, false where the weight is 0; `dim` the
    dimension along which the weights sum to 1; `gamma` > 0, the regularization; `top_k` a whole number, 1 or above.

    Returns the weights in the shape and dtype of `scores`. They jump where scores change their places at the
    `top_k`-th; the derivatives are those of the scores that are taken.
    """
    gamma = check_gamma(gamma)
    top_k = check_top_k(top_k)
    dim, included = check_dim(dim), included_positions(scores, mask)
    taken = included
    if scores.size(dim) > 0:
        taken = included & _is_among_largest(scores.detach().masked_fill(~included, -math.inf), dim, top_k)
        # A row without a solution is NaN at all its positions.
        spoiled = (scores.isnan() | (scores == math.inf)) & included
        is_spoiled = spoiled.any(dim, keepdim=True)
        if isinstance(gamma, Tensor):
            gammas = expand_parameter("gamma", gamma, scores, dim)
            is_spoiled = is_spoiled | ~((gammas > 0) & (gammas < math.inf))
        taken = taken | (included & is_spoiled)
    return sparsemax(scores, taken, dim, gamma)


def _is_among_largest(scores: Tensor, dim: int, top_k: int) -> Tensor:
    """Where the largest `top_k` scores are, the first ones of equal scores."""
    scores = scores.to(COMPUTE_DTYPES[scores.dtype])
    # Scores that are not in the problem make any row as long as topk wants it.
    shape = list(scores.shape)
    shape[dim] = top_k
    padded = torch.cat([scores, scores.new_full(shape, -math.inf)], dim)
    last = padded.topk(top_k, dim).values.amin(dim, keepdim=True)
    is_larger, is_last = scores > last, scores == last
    num_left = top_k - is_larger.sum(dim, keepdim=True)
    return is_larger | (is_last & (is_last.cumsum(dim) <= num_left))


@RegularizedMax.register("top_k_sparsemax")
class TopKSparsemax(RegularizedMax):
    """
    `top_k_sparsemax` as a module: Omega(p) = 1/2 ||p||^2, where no more than `top_k` of the p_i are not 0.

    # Parameters

    gamma, dim, learn_gamma
        See `RegularizedMax`.
    top_k : int, optional (default = 8)
        How many weights may be above 0, 1 or more.
    """

    vertex_omega = 0.5

    def __init__(self, gamma: float | Tensor = 1.0, top_k: int = 8, dim: int = -1, learn_gamma: bool = False) -> None:
        super().__init__(gamma, dim, learn_gamma)
        self.top_k = check_top_k(top_k)

    def extra_repr(self) -> str:
        return f"top_k={self.top_k}, {super().extra_repr()}"

    def forward(self, scores: Tensor, mask: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        require_dense("top_k_sparsemax", offsets)
        return top_k_sparsemax(scores, mask, self.dim, self.gamma, self.top_k)

    def omega(self, weights: Tensor, mask: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        require_dense("top_k_sparsemax", offsets)
        return weights.square().sum(self.dim) / 2

    def attains(self, weights: Tensor, mask: Tensor | None, tolerance: float) -> Tensor:
        return support_size(weights, self.dim) <= self.top_k
