import torch

from regattn_allennlp.modules.latent_alignment.gradient_estimators.elbo_estimator import ElboEstimator
from regattn_allennlp.modules.latent_alignment.gradient_estimators.gradient_estimator import GradientEstimator
from regattn_allennlp.modules.latent_alignment.latent_alignment import AlignmentQueries
from regattn_allennlp.modules.latent_alignment.prior_support import PriorSupport


@GradientEstimator.register("enumeration")
class EnumerationEstimator(ElboEstimator):
    """
    The ELBO and its gradient exactly, by summing over the prior's support: the likelihood of every position of it is
    computed. The sparser the prior, the fewer these are.

    Registered as a `GradientEstimator` with name "enumeration".

    # Parameters

    kl_weight : `Union[float, Schedule]`, optional (default = `1.0`)
        See `ElboEstimator`.
    """

    def expected_log_likelihood(
        self, queries: AlignmentQueries, support: PriorSupport, log_posterior: torch.Tensor
    ) -> torch.Tensor:
        return support.expectation(log_posterior, support.log_likelihood(queries))
