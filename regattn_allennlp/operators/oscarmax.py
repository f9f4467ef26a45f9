import torch
from torch import Tensor

from regattn_allennlp.operators.block_jacobian import BlockSolution
from regattn_allennlp.operators.regularized_max import RegularizedMax
from regattn_allennlp.operators.rows import check_gamma, check_lam, included_positions, solve_rows
from regattn_allennlp.operators.sparsemax import sparsemax


def oscarmax(
    scores: Tensor, mask: Tensor | None = None, dim: int = -1, gamma: float = 1.0, lam: float = 0.1
) -> Tensor:
    """
    Sparse weights that are equal over groups, contiguous or not (Niculae & Blondel 2017, arXiv 1705.07704, section
    3.3): the solution of

        argmax_{p in simplex} <p, x> - gamma * (1/2 ||p||^2 + lam * sum_{i < j} max(p_i, p_j)),

    exactly. (The code published with the paper takes absolute values of the scores, and so gives another answer when
    scores of both signs occur. On the simplex no sign matters: the scores are sorted, lam times the number of smaller
    ones is subtracted from each, neighbours out of order are pooled, and the result is projected.)

    Parameters and errors are those of `RegularizedMax` and its `forward`: `scores` of any floating-point dtype and
    any number of dimensions; `mask` of dtype bool, broadcastable to `scores`, false where the weight is 0; `dim` the
    dimension along which the weights sum to 1; `gamma` > 0, the regularization; `lam` >= 0, how strongly weights are
    drawn together: at 0 this is `sparsemax`, and as it grows the weights become uniform.

    Returns the weights in the shape and dtype of `scores`.
    """
    check_gamma(gamma)
    check_lam(lam)
    if lam == 0:
        return sparsemax(scores, mask, dim, gamma)

    def solve(rows: Tensor) -> Tensor:
        return BlockSolution.apply(rows, gamma, lambda kernels, rows: kernels.oscarmax_rows(rows, gamma, lam))

    return solve_rows(solve, scores, mask, dim)


@RegularizedMax.register("oscarmax")
class Oscarmax(RegularizedMax):
    """`oscarmax` as a module: Omega(p) = 1/2 ||p||^2 + lam * sum_{i < j} max(p_i, p_j)."""

    def __init__(self, gamma: float = 1.0, lam: float = 0.1, dim: int = -1) -> None:
        super().__init__(gamma, dim)
        check_lam(lam)
        self.lam = lam

    def forward(self, scores: Tensor, mask: Tensor | None = None) -> Tensor:
        return oscarmax(scores, mask, self.dim, self.gamma, self.lam)

    def omega(self, weights: Tensor, mask: Tensor | None = None) -> Tensor:
        counts = included_positions(weights, mask).movedim(self.dim, -1).sum(-1, keepdim=True)
        # The k-th largest weight is the larger one of its pairs with all that come after it.
        decreasing = weights.movedim(self.dim, -1).sort(dim=-1, descending=True).values
        ranks = torch.arange(1, decreasing.size(-1) + 1, device=weights.device)
        pairwise_maxima = (decreasing * (counts - ranks)).sum(-1)
        return weights.square().sum(self.dim) / 2 + self.lam * pairwise_maxima

    def extra_repr(self) -> str:
        return f"gamma={self.gamma}, lam={self.lam}, dim={self.dim}"
