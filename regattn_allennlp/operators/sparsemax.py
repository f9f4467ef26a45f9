from torch import Tensor

from regattn_allennlp.operators.block_operators import solve_block_operator
from regattn_allennlp.operators.functions import overridable
from regattn_allennlp.operators.nested import takes_jagged
from regattn_allennlp.operators.regularized_max import RegularizedMax
from regattn_allennlp.operators.rows import check_gamma, sum_of_rows


@overridable
@takes_jagged
def sparsemax(
    scores: Tensor,
    mask: Tensor | None = None,
    dim: int = -1,
    gamma: float | Tensor = 1.0,
    offsets: Tensor | None = None,
) -> Tensor:
    """
    Sparse attention weights (Martins & Astudillo 2016, arXiv 1602.02068): the solution of

        argmax_{p in simplex} <p, x> - gamma * 1/2 ||p||^2,

    the Euclidean projection of x / gamma on the simplex. Scores gamma or more below the largest get weight exactly 0.

    Parameters and errors are those of `RegularizedMax` and its `forward`: `scores` of any floating-point dtype and
    any number of dimensions; `mask` of dtype bool, broadcastable to `scores`, false where the weight is 0; `dim` the
    dimension along which the weights sum to 1; `gamma` > 0, the regularization; `offsets` where packed rows
    begin.

    Returns the weights in the shape and dtype of `scores`.
    """
    gamma = check_gamma(gamma)
    return solve_block_operator("sparsemax", scores, mask, dim, gamma, offsets=offsets)


@RegularizedMax.register("sparsemax")
class Sparsemax(RegularizedMax):
    """`sparsemax` as a module: Omega(p) = 1/2 ||p||^2."""

    vertex_omega = 0.5

    def forward(self, scores: Tensor, mask: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        return sparsemax(scores, mask, self.dim, self.gamma, offsets)

    def entmax_alpha(self) -> float:
        return 2.0

    def omega(self, weights: Tensor, mask: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        return sum_of_rows(weights.square(), self.dim, offsets) / 2
