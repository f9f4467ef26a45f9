import torch

from regattn_allennlp.modules.latent_alignment.gradient_estimators.gradient_estimator import GradientEstimator
from regattn_allennlp.modules.latent_alignment.latent_alignment import AlignmentQueries
from regattn_allennlp.modules.latent_alignment.prior_support import PriorSupport


@GradientEstimator.register("enumeration")
class EnumerationEstimator(GradientEstimator):
    """
    The ELBO and its gradient exactly, by summing over the prior's support: the likelihood of every position of it is
    computed. The sparser the prior, the fewer these are.

    Registered as a `GradientEstimator` with name "enumeration".
    """

    def objective(self, queries: AlignmentQueries, support: PriorSupport, log_posterior: torch.Tensor) -> torch.Tensor:
        log_likelihood = support.log_likelihood(queries)
        return support.expectation(log_posterior, log_likelihood) - support.divergence_from_prior(log_posterior)
