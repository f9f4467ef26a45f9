from typing import Optional

import torch
from allennlp.modules.attention import Attention

from regattn_allennlp.modules.latent_alignment.categorical_alignment import CategoricalAlignment
from regattn_allennlp.modules.latent_alignment.latent_alignment import AlignmentQueries, LatentAlignment
from regattn_allennlp.modules.latent_alignment.prior_support import PriorSupport
from regattn_allennlp.modules.latent_alignment.score_function import sampled_log_likelihood
from regattn_allennlp.modules.require_at_least import require_at_least


@LatentAlignment.register("hard")
class HardAlignment(CategoricalAlignment):
    """
    Hard attention (Xu et al. 2015, arXiv 1502.03044, section 4.1): training maximizes E_p[log p(y | x_z)], a lower
    bound of the log marginal, by samples of the prior and the score function gradient; its baseline is soft
    attention's log p(y | E_p[x_z]).

    Registered as a `LatentAlignment` with name "hard".

    # Parameters

    num_samples : `int`, optional (default = `1`)
        How many positions are sampled for each query.
    marginal_top_k : `int`, optional (default = `None`)
        See `CategoricalAlignment`.
    attention, memory_dim, query_dim, target_dim
        See `LatentAlignment`.

    # Raises

    `ConfigurationError` for numbers below 1.
    """

    def __init__(
        self,
        attention: Attention,
        memory_dim: int,
        query_dim: int,
        target_dim: int,
        num_samples: int = 1,
        marginal_top_k: Optional[int] = None,
    ) -> None:
        super().__init__(attention, memory_dim, query_dim, target_dim, marginal_top_k)
        require_at_least(1, num_samples, "num_samples")
        self._num_samples = num_samples

    def objective(self, queries: AlignmentQueries, posterior_scores: Optional[torch.Tensor] = None) -> torch.Tensor:
        support = PriorSupport(queries)
        return sampled_log_likelihood(queries, support, support.log_prior, self._num_samples)
