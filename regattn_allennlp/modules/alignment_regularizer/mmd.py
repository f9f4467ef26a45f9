from typing import Optional

import torch
from allennlp.common.checks import ConfigurationError

from regattn_allennlp.modules.alignment_regularizer.alignment_regularizer import AlignmentRegularizer
from regattn_allennlp.modules.alignment_regularizer.squared_distances import (
    expected,
    relative_squared_distances,
    require_positive_scale,
)


@AlignmentRegularizer.register("mmd")
class MaximumMeanDiscrepancyRegularizer(AlignmentRegularizer):
    """
    The squared maximum mean discrepancy (Gretton et al. 2012, JMLR 13, section 2.2, equation 5: the biased estimate,
    which is the exact discrepancy of the two sets),

        D = E[k(q, q')] + E[k(k, k')] - 2 E[k(q, k)],    k(x, y) = mean over b of exp(-|x - y|^2 / (b s)),

    with s the unit of squared distances. From 0, for equal sets alone, to 2; symmetric.

    Registered as an `AlignmentRegularizer` with name "mmd".

    # Parameters

    bandwidths : `List[float]`, optional (default = `[0.25, 0.5, 1.0, 2.0, 4.0]`)
        The b above.
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
        bandwidths: Optional[list[float]] = None,
        scale: Optional[float] = None,
    ) -> None:
        super().__init__(num_heads, head_dim, weight, warmup_batches)
        self._bandwidths = [0.25, 0.5, 1.0, 2.0, 4.0] if bandwidths is None else bandwidths
        if not self._bandwidths or min(self._bandwidths) <= 0:
            raise ConfigurationError(f'"bandwidths" must be numbers above 0, at least one, but is {bandwidths}')
        self._scale = require_positive_scale(scale)

    def distances(self, queries: torch.Tensor, keys: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
        squares = relative_squared_distances(queries, keys, mass, self._scale)
        kernels = [expected((-squares / bandwidth).exp(), mass) for bandwidth in self._bandwidths]
        # Shape: (3, batch_size, num_heads)
        between_sets, among_queries, among_keys = torch.stack(kernels).mean(dim=0)
        return among_queries + among_keys - 2 * between_sets
