from typing import Optional

import torch

from regattn_allennlp.modules.latent_alignment.latent_alignment import (
    DISTRIBUTIONS,
    AlignmentQueries,
    LatentAlignment,
)


@LatentAlignment.register("soft")
class SoftAlignment(LatentAlignment):
    """
    Attention as usual: no latent variable, log p(y | E_p[x_z]).

    Registered as a `LatentAlignment` with name "soft".
    """

    def objective(self, queries: AlignmentQueries, posterior_scores: Optional[torch.Tensor] = None) -> torch.Tensor:
        return self.log_marginal(queries)

    def log_marginal(self, queries: AlignmentQueries) -> torch.Tensor:
        return queries.log_likelihood_of_expectation()

    @property
    def distributions(self) -> tuple[str, ...]:
        return DISTRIBUTIONS[:1]
