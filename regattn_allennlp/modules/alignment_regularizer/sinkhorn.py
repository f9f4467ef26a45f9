from typing import Optional

import torch
from allennlp.common.checks import ConfigurationError

from regattn_allennlp.modules.alignment_regularizer.alignment_regularizer import AlignmentRegularizer
from regattn_allennlp.modules.alignment_regularizer.squared_distances import (
    expected,
    relative_squared_distances,
    require_positive_scale,
)
from regattn_allennlp.modules.require_at_least import require_at_least

# The density of float32 bears this many.
ITERATIONS_BETWEEN_LOGARITHMS = 10


@AlignmentRegularizer.register("sinkhorn")
class SinkhornRegularizer(AlignmentRegularizer):
    """
    The Sinkhorn divergence of entropic optimal transport (Cuturi 2013, arXiv 1306.0895; Feydy et al. 2019, arXiv
    1810.08278, equations 1 to 3),

        D = OT(Q, K) - 1/2 OT(Q, Q) - 1/2 OT(K, K),
        OT(A, B) = min over plans P with the marginals a, b of <P, C> + epsilon KL(P || a b^T),

    C_ij = |x_i - y_j|^2 / s, with s the unit of squared distances. 0 for equal sets alone; symmetric. Solved by
    Sinkhorn's iterations with log-domain stabilization (Schmitzer 2019, arXiv 1610.06519); the gradient is that of the
    solution, <P, dC>, and no iteration is kept for it.

    Registered as an `AlignmentRegularizer` with name "sinkhorn".

    # Parameters

    epsilon : `float`, optional (default = `0.1`)
        How far plans are smoothed, in units of s; above 0.
    tolerance : `float`, optional (default = `0.001`)
        The iterations end when the plans' marginals are wrong by this much mass at most, in all of a batch,
    max_iterations : `int`, optional (default = `100`)
        or after so many.
    scale : `float`, optional (default = the mean squared distance of all points, queries and keys, of a head)
        The s above. With the default, D does not change when all vectors grow or shrink alike.
    num_heads, head_dim, weight, warmup_batches
        See `AlignmentRegularizer`.
    """

    def __init__(
        self,
        num_heads: int,
        head_dim: int,
        weight: float = 0.1,
        warmup_batches: int = 0,
        epsilon: float = 0.1,
        tolerance: float = 1e-3,
        max_iterations: int = 100,
        scale: Optional[float] = None,
    ) -> None:
        super().__init__(num_heads, head_dim, weight, warmup_batches)
        for key, value in {"epsilon": epsilon, "tolerance": tolerance}.items():
            if value <= 0:
                raise ConfigurationError(f'"{key}" must be above 0, but is {value}')
        require_at_least(1, max_iterations, "max_iterations")
        self._epsilon = epsilon
        self._tolerance = tolerance
        self._max_iterations = max_iterations
        self._scale = require_positive_scale(scale)

    def distances(self, queries: torch.Tensor, keys: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
        # Shape: (3, batch_size, num_heads, num_tokens, num_tokens)
        costs = relative_squared_distances(queries, keys, mass, self._scale)
        # Shape: (3, batch_size, num_heads)
        between_sets, among_queries, among_keys = self._transport_costs(costs, mass)
        return between_sets - (among_queries + among_keys) / 2

    def _transport_costs(self, costs: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
        """OT of each matrix of costs, both of whose marginals are `mass`."""
        with torch.no_grad():
            kernel = -costs / self._epsilon
            # Shape: (batch_size, 1, num_tokens)
            mass_of_heads = mass.unsqueeze(1)
            # Shape (both): (3, batch_size, num_heads, num_tokens)
            of_rows, of_columns = self._dual_potentials(kernel, mass_of_heads)
            density = _density(kernel, of_rows, of_columns, mass_of_heads)
            dual = self._epsilon * ((of_rows + of_columns) * mass_of_heads).sum(dim=-1)
        # The value of the dual problem, with the gradient of the primal one at its solution: <P, dC>.
        return dual + expected(density * (costs - costs.detach()), mass)

    def _dual_potentials(self, kernel: torch.Tensor, mass: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """
        In units of epsilon. Iterations take factors of the density, which spares them the exponentials, and go on from
        the logarithms before it may underflow: where one side's marginals are right, no factor of the next iteration
        is below a token's mass or above its inverse.
        """
        of_rows = -(kernel + mass.log().unsqueeze(-2)).logsumexp(dim=-1)
        of_columns = -(kernel + (of_rows + mass.log()).unsqueeze(-1)).logsumexp(dim=-2)
        row_factors, column_factors = torch.ones_like(of_rows), torch.ones_like(of_columns)
        for number in range(self._max_iterations):
            if number % ITERATIONS_BETWEEN_LOGARITHMS == 0:
                of_rows, of_columns = of_rows + row_factors.log(), of_columns + column_factors.log()
                density = _density(kernel, of_rows, of_columns, mass)
                row_factors, column_factors = torch.ones_like(of_rows), torch.ones_like(of_columns)
            # The columns' marginals are right by now; so the rows' are what is wrong with the plan.
            row_marginals = (density * (column_factors * mass).unsqueeze(-2)).sum(dim=-1)
            wrong = ((row_factors * row_marginals - 1).abs() * mass).sum(dim=-1)
            if wrong.max() <= self._tolerance:
                break
            row_factors = 1 / row_marginals
            column_factors = 1 / (density * (row_factors * mass).unsqueeze(-1)).sum(dim=-2)
        return of_rows + row_factors.log(), of_columns + column_factors.log()


def _density(
    kernel: torch.Tensor, of_rows: torch.Tensor, of_columns: torch.Tensor, mass: torch.Tensor
) -> torch.Tensor:
    """How much denser than its marginals' product the plan is; at padding, where nothing bounds it, 1."""
    log_density = kernel + of_rows.unsqueeze(-1) + of_columns.unsqueeze(-2)
    padding = mass == 0
    return log_density.masked_fill(padding.unsqueeze(-1) | padding.unsqueeze(-2), 0).exp()
