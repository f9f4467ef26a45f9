from torch import Tensor

from regattn_allennlp.operators.block_operators import solve_block_operator
from regattn_allennlp.operators.functions import overridable
from regattn_allennlp.operators.nested import takes_jagged
from regattn_allennlp.operators.penalized_max import PenalizedMax
from regattn_allennlp.operators.penalties import total_variation, total_variation_of_vertices
from regattn_allennlp.operators.regularized_max import RegularizedMax
from regattn_allennlp.operators.rows import check_gamma, check_lam
from regattn_allennlp.operators.sparsemax import sparsemax


@overridable
@takes_jagged
def fusedmax(
    scores: Tensor,
    mask: Tensor | None = None,
    dim: int = -1,
    gamma: float | Tensor = 1.0,
    lam: float | Tensor = 0.1,
    offsets: Tensor | None = None,
) -> Tensor:
    """
    Sparse weights that are equal over whole segments (Niculae & Blondel 2017, arXiv 1705.07704, section 3.2): the
    solution of

        argmax_{p in simplex} <p, x> - gamma * (1/2 ||p||^2 + lam * sum_i |p[i + 1] - p[i]|),

    the projection on the simplex of the proximal operator of the total variation at x / gamma. Two positions in the
    problem with only masked ones between them are neighbours.

    Parameters and errors are those of `RegularizedMax` and its `forward`: `scores` of any floating-point dtype and
    any number of dimensions; `mask` of dtype bool, broadcastable to `scores`, false where the weight is 0; `dim` the
    dimension along which the weights sum to 1; `gamma` > 0, the regularization; `lam` >= 0, how strongly neighbours
    are drawn together: at 0 this is `sparsemax`, and as it grows the weights become uniform; `offsets` where packed
    rows begin. Gamma and lam may be tensors that broadcast to `scores` with size 1 at `dim`, one for each row or head,
    and may require gradients.

    Returns the weights in the shape and dtype of `scores`.
    """
    gamma = check_gamma(gamma)
    lam = check_lam(lam)
    if not isinstance(lam, Tensor) and lam == 0:
        return sparsemax(scores, mask, dim, gamma, offsets)
    return solve_block_operator("fusedmax", scores, mask, dim, gamma, lam, offsets)


@RegularizedMax.register("fusedmax")
class Fusedmax(PenalizedMax):
    """`fusedmax` as a module: Omega(p) = 1/2 ||p||^2 + lam * sum_i |p[i + 1] - p[i]|."""

    penalty = staticmethod(total_variation)
    penalty_of_vertices = staticmethod(total_variation_of_vertices)

    def forward(self, scores: Tensor, mask: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        return fusedmax(scores, mask, self.dim, self.gamma, self.lam, offsets)
