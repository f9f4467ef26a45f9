from torch import Tensor

from regattn_allennlp.operators.block_jacobian import BlockSolution
from regattn_allennlp.operators.regularized_max import RegularizedMax
from regattn_allennlp.operators.rows import check_gamma, check_lam, included_positions, solve_rows
from regattn_allennlp.operators.sparsemax import sparsemax


def fusedmax(
    scores: Tensor, mask: Tensor | None = None, dim: int = -1, gamma: float = 1.0, lam: float = 0.1
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
    are drawn together: at 0 this is `sparsemax`, and as it grows the weights become uniform.

    Returns the weights in the shape and dtype of `scores`.
    """
    check_gamma(gamma)
    check_lam(lam)
    if lam == 0:
        return sparsemax(scores, mask, dim, gamma)

    def solve(rows: Tensor) -> Tensor:
        return BlockSolution.apply(rows, gamma, lambda kernels, rows: kernels.fusedmax_rows(rows, gamma, lam))

    return solve_rows(solve, scores, mask, dim)


@RegularizedMax.register("fusedmax")
class Fusedmax(RegularizedMax):
    """`fusedmax` as a module: Omega(p) = 1/2 ||p||^2 + lam * sum_i |p[i + 1] - p[i]|."""

    def __init__(self, gamma: float = 1.0, lam: float = 0.1, dim: int = -1) -> None:
        super().__init__(gamma, dim)
        check_lam(lam)
        self.lam = lam

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        return fusedmax(scores, mask, self.dim, self.gamma, self.lam)

    def omega(self, weights: Tensor, mask: Tensor | None = None) -> Tensor:
        weights = weights.movedim(self.dim, -1)
        included = included_positions(weights.movedim(-1, self.dim), mask).movedim(self.dim, -1)
        # The positions in the problem to the front, in their order: then neighbours stand side by side.
        order = included.logical_not().to(weights.dtype).argsort(dim=-1, stable=True)
        steps = weights.gather(-1, order).diff(dim=-1).abs() * included.gather(-1, order)[..., 1:]
        return weights.square().sum(-1) / 2 + self.lam * steps.sum(-1)

    def extra_repr(self) -> str:
        return f"gamma={self.gamma}, lam={self.lam}, dim={self.dim}"
