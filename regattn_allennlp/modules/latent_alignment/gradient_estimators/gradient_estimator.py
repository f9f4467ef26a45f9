import torch
from allennlp.common import Registrable

from regattn_allennlp.modules.latent_alignment.latent_alignment import AlignmentQueries
from regattn_allennlp.modules.latent_alignment.prior_support import PriorSupport


class GradientEstimator(torch.nn.Module, Registrable):
    """
    What `VariationalAlignment` maximizes: the ELBO, E_q[log p(y | x_z)] - KL(q || p), or what an estimator has in its
    place, and how its gradient is computed.

    In a config: the "estimator" of the latent alignment "variational".
    """

    default_implementation = "enumeration"

    def objective(self, queries: AlignmentQueries, support: PriorSupport, log_posterior: torch.Tensor) -> torch.Tensor:
        """
        The ELBO of each query or an estimate of it, in nats, with the estimator's gradient.

        # Parameters

        queries : `AlignmentQueries`
            With one target each.
        support : `PriorSupport`
        log_posterior : `torch.Tensor`
            Shape (num_queries, size): log q on the support.

        # Returns

        Shape (num_queries,).
        """
        raise NotImplementedError
