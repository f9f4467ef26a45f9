from torch import Tensor

from regattn_allennlp.operators.functions import overridable
from regattn_allennlp.operators.implicit_operators import Regularizer, solve_implicit_operator
from regattn_allennlp.operators.nested import takes_jagged
from regattn_allennlp.operators.regularized_max import RegularizedMax
from regattn_allennlp.operators.rows import Rows, check_gamma, check_number, solve_problems, sum_of_rows
from regattn_allennlp.operators.sparsemax import sparsemax


def check_exponent(exponent: float) -> float:
    return check_number("exponent", exponent, lambda value: 1 < value <= 2, "above 1 and not above 2")


@overridable
@takes_jagged
def squared_p_norm_max(
    scores: Tensor,
    mask: Tensor | None = None,
    dim: int = -1,
    gamma: float | Tensor = 1.0,
    exponent: float = 1.5,
    offsets: Tensor | None = None,
) -> Tensor:
    """
    Sparse weights by a squared p-norm (Niculae & Blondel 2017, arXiv 1705.07704, section 3.1): the solution of

        argmax_{p in simplex} <p, x> - gamma * 1/2 ||p||_q^2,    ||p||_q = (sum_i p_i^q)^(1 / q),    1 < q <= 2

    with q the `exponent`. At 2 this is `sparsemax`; the nearer to 1, the more of the weights are small, but not 0.
    Scores gamma or more below the largest get weight exactly 0.

    Newton's method, kept in a bracket, finds the threshold to the precision of the dtype.

    Parameters and errors are those of `RegularizedMax` and its `forward`: `scores` of any floating-point dtype and
    any number of dimensions; `mask` of dtype bool, broadcastable to `scores`, false where the weight is 0; `dim` the
    dimension along which the weights sum to 1; `gamma` > 0, the regularization; `exponent` a number above 1 and not
    above 2; `offsets` where packed rows begin.

    Returns the weights in the shape and dtype of `scores`.
    """
    gamma = check_gamma(gamma)
    exponent = check_exponent(exponent)
    if exponent == 2:
        return sparsemax(scores, mask, dim, gamma, offsets)

    def solve(problem, mask, gamma, offsets):  # torch.compile of older PyTorch stops at annotations
        return solve_implicit_operator(SQUARED_P_NORM, problem, mask, gamma, offsets, exponent)

    return solve_problems(solve, scores, mask, dim, gamma, offsets)


def _slopes(weights: Tensor, exponent: float, rows: Rows) -> Tensor:
    """Those of 1/2 ||p||_q^2: ||p||^(2 - q) * p_i^(q - 1); 0 where p is 0."""
    logarithms, support = _logarithms(weights)
    powers = ((exponent - 1) * logarithms).exp().where(support, 0)
    return _norm(weights, exponent, rows) ** (2 - exponent) * powers


def _jacobian_product(weights: Tensor, exponent: float, vector: Tensor, rows: Rows) -> Tensor:
    """
    K u - K 1 * (1^T K u) / (1^T K 1), where K is the inverse, on the support, of the Hessian of 1/2 ||p||_q^2:

        K = (||p||^(q - 2) * diag(p^(2 - q)) - (2 - q) * ||p||^(-2) * p p^T) / (q - 1)

    by the formula of Sherman and Morrison: the Hessian is a diagonal matrix and the product of a vector with itself.
    """
    logarithms, support = _logarithms(weights)
    vector = vector.where(support, 0)
    norm = _norm(weights, exponent, rows)
    diagonal = norm ** (exponent - 2) * ((2 - exponent) * logarithms).exp().where(support, 0)
    factor = (2 - exponent) * norm**-2

    of_vector = diagonal * vector - factor * weights * rows.spread(rows.sum(weights * vector))
    of_ones = diagonal - factor * weights * rows.spread(rows.sum(weights))
    total = rows.spread(rows.sum(of_ones))
    mean = rows.spread(rows.sum(of_vector)) / total.where(total != 0, 1)
    return (of_vector - of_ones * mean) / (exponent - 1)


def _logarithms(weights: Tensor) -> tuple[Tensor, Tensor]:
    """The logarithms of the weights, 0 where they are 0, without NaN in any derivative; and where they are not 0."""
    support = weights != 0
    return weights.where(support, 1).log(), support


def _norm(weights: Tensor, exponent: float, rows: Rows) -> Tensor:
    """||p||_q, but 1 for rows with nothing in them; for each entry."""
    logarithms, support = _logarithms(weights)
    powers = rows.spread(rows.sum((exponent * logarithms).exp().where(support, 0)))
    return powers.where(powers != 0, 1) ** (1 / exponent)


SQUARED_P_NORM = Regularizer("squared_p_norm_max", "squared_p_norm_jacobian", _jacobian_product, _slopes)


@RegularizedMax.register("squared_p_norm_max")
class SquaredPNormMax(RegularizedMax):
    """
    `squared_p_norm_max` as a module: Omega(p) = 1/2 ||p||_q^2, q the `exponent`.

    # Parameters

    gamma, dim, learn_gamma
        See `RegularizedMax`.
    exponent : float, optional (default = 1.5)
        q, above 1 and not above 2, where it is sparsemax.
    """

    vertex_omega = 0.5

    def __init__(
        self, gamma: float | Tensor = 1.0, exponent: float = 1.5, dim: int = -1, learn_gamma: bool = False
    ) -> None:
        super().__init__(gamma, dim, learn_gamma)
        exponent = check_exponent(exponent)
        self.exponent = exponent

    def extra_repr(self) -> str:
        return f"exponent={self.exponent}, {super().extra_repr()}"

    def forward(self, scores: Tensor, mask: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        return squared_p_norm_max(scores, mask, self.dim, self.gamma, self.exponent, offsets)

    def omega(self, weights: Tensor, mask: Tensor | None = None, offsets: Tensor | None = None) -> Tensor:
        # The sum, of which a root is taken, is 0 in a row with nothing in it: then no derivative may be infinite.
        support = weights != 0
        powers = sum_of_rows(weights.where(support, 1).pow(self.exponent).where(support, 0), self.dim, offsets)
        return powers.where(powers != 0, 1).pow(2 / self.exponent).where(powers != 0, 0) / 2
