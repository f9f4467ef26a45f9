from typing import Optional

import torch

from regattn_allennlp.modules.latent_alignment.categorical_alignment import CategoricalAlignment
from regattn_allennlp.modules.latent_alignment.latent_alignment import AlignmentQueries, LatentAlignment
from regattn_allennlp.modules.latent_alignment.prior_support import PriorSupport


@LatentAlignment.register("exact")
class ExactAlignment(CategoricalAlignment):
    """
    Training maximizes the marginal likelihood itself, log sum_z p(z) p(y | x_z), by summing over the prior's support
    (Deng et al. 2018, arXiv 1807.03756, section 2).

    Registered as a `LatentAlignment` with name "exact".

    # Parameters

    marginal_top_k : `int`, optional (default = `None`)
        See `CategoricalAlignment`. Training sums over all positions in any case.
    attention, memory_dim, query_dim, target_dim
        See `LatentAlignment`.
    """

    def objective(self, queries: AlignmentQueries, posterior_scores: Optional[torch.Tensor] = None) -> torch.Tensor:
        return self._log_marginal(queries, PriorSupport(queries))
