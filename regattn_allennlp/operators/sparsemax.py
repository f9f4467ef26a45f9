import torch
from torch import Tensor

from regattn_allennlp.operators.block_operators import solve_block_operator
from regattn_allennlp.operators.functions import overridable
from regattn_allennlp.operators.regularized_max import RegularizedMax
from regattn_allennlp.operators.rows import check_gamma


@overridable
def sparsemax(scores: Tensor, mask: Tensor | None = None, dim: int = -1, gamma: float | Tensor = 1.0) -> Tensor:
    """
    Sparse attention weights (Martins & Astudillo 2016, arXiv 1602.02068): the solution of

        argmax_{p in simplex} <p, x> - gamma * 1/2 ||p||^2,

    the Euclidean projection of x / gamma on the simplex. Scores gamma or more below the largest get weight exactly 0.

    Parameters and errors are those of `RegularizedMax` and its `forward`: `scores` of any floating-point dtype and
    any number of dimensions; `mask` of dtype bool, broadcastable to `scores`, false where the weight is 0; `dim` the
    dimension along which the weights sum to 1; `gamma` > 0, the regularization.

    Returns the weights in the shape and dtype of `scores`.
    """
    gamma = check_gamma(gamma)
    return solve_block_operator("sparsemax", scores, mask, dim, gamma)


@RegularizedMax.register("sparsemax")
class Sparsemax(RegularizedMax):
    """`sparsemax` as a module: Omega(p) = 1/2 ||p||^2."""

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        return sparsemax(scores, mask, self.dim, self.gamma)

    def entmax_alpha(self) -> float:
        return 2.0

    def omega_at(self, positions: Tensor, included: Tensor, dtype: torch.dtype) -> float:
        return 0.5

    def omega(self, weights: Tensor, mask: Tensor | None = None) -> Tensor:
        return weights.square().sum(self.dim) / 2
