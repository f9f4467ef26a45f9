from typing import Optional

import torch
from allennlp.modules.attention import Attention

from regattn_allennlp.modules.latent_alignment.latent_alignment import AlignmentQueries, LatentAlignment
from regattn_allennlp.modules.latent_alignment.prior_support import PriorSupport
from regattn_allennlp.modules.latent_alignment.query_chunks import in_query_chunks
from regattn_allennlp.modules.require_at_least import require_at_least


class CategoricalAlignment(LatentAlignment):
    """
    A latent alignment with one position: z is one of 1..n, p(y) = sum_z p(z) p(y | x_z).

    The prior may be any attention's that gives weights. A sparse one (sparsemax, fusedmax, oscarmax, ...) has fewer
    terms to sum, exactly. But y then has probability from the support alone, and the gradient, which is the right one,
    says nothing of a position outside the support: the prior finds such a position only through the scores of the
    others. A larger gamma makes the support larger.

    # Parameters

    marginal_top_k : `int`, optional (default = `None`)
        `log_marginal` sums over this many of the most probable positions, their weights renormalized to sum to 1: a
        proper distribution of y, but another, near the model's own. Without it all positions are summed, exactly.
        Outside of training a decoder is fed what it expects of these positions too.
    attention, memory_dim, query_dim, target_dim
        See `LatentAlignment`.

    # Raises

    `ConfigurationError` for a `marginal_top_k` below 1; see `LatentAlignment`.
    """

    def __init__(
        self,
        attention: Attention,
        memory_dim: int,
        query_dim: int,
        target_dim: int,
        marginal_top_k: Optional[int] = None,
    ) -> None:
        super().__init__(attention, memory_dim, query_dim, target_dim)
        if marginal_top_k is not None:
            require_at_least(1, marginal_top_k, "marginal_top_k")
        self.marginal_top_k = marginal_top_k

    def log_marginal(self, queries: AlignmentQueries) -> torch.Tensor:
        return self._log_marginal(queries, PriorSupport(queries, self.marginal_top_k))

    def posterior(self, queries: AlignmentQueries) -> torch.Tensor:
        """
        Exactly: in proportion to p(z) p(y | x_z), over all positions whatever `marginal_top_k` is, and 0 where the
        prior is.
        """
        support = PriorSupport(queries)

        def log_joint_of(numbers: torch.Tensor) -> torch.Tensor:
            return support.log_prior[numbers] + support.log_likelihood(queries, numbers)

        log_joint = in_query_chunks(log_joint_of, len(queries.weights), support.size, queries.weights.device)
        return support.at_all_positions(support.log_softmax(log_joint))

    def _log_marginal(self, queries: AlignmentQueries, support: PriorSupport) -> torch.Tensor:
        # -inf plus the filler's 0, not a product with 0: exactly nothing is added, to the sum and to the gradients.
        log_prior = support.without_filler(support.log_prior)

        def log_marginal_of(numbers: torch.Tensor) -> torch.Tensor:
            # Shape: (num_numbers, size) or (num_numbers, size, num_outcomes)
            log_likelihood = support.log_likelihood(queries, numbers)
            prior = log_prior[numbers]
            return ((prior if log_likelihood.dim() == 2 else prior.unsqueeze(-1)) + log_likelihood).logsumexp(1)

        return in_query_chunks(log_marginal_of, len(log_prior), support.size, log_prior.device)
