import torch

from regattn_allennlp.modules.latent_alignment.gradient_estimators.gradient_estimator import GradientEstimator
from regattn_allennlp.modules.latent_alignment.latent_alignment import AlignmentQueries
from regattn_allennlp.modules.latent_alignment.prior_support import PriorSupport
from regattn_allennlp.modules.latent_alignment.score_function import sampled_log_likelihood
from regattn_allennlp.modules.require_at_least import require_at_least


@GradientEstimator.register("reinforce")
class ReinforceEstimator(GradientEstimator):
    """
    E_q[log p(y | x_z)] from samples of q, with the score function gradient, whose baseline is soft attention's
    log p(y | E_p[x_z]); the KL in closed form. Value and gradient are unbiased. The likelihood is computed for the
    samples and for the baseline.

    Registered as a `GradientEstimator` with name "reinforce".

    # Parameters

    num_samples : `int`, optional (default = `1`)
        How many positions are sampled for each query.
    """

    def __init__(self, num_samples: int = 1) -> None:
        require_at_least(1, num_samples, "num_samples")
        self._num_samples = num_samples

    def objective(self, queries: AlignmentQueries, support: PriorSupport, log_posterior: torch.Tensor) -> torch.Tensor:
        log_likelihood = sampled_log_likelihood(queries, support, log_posterior, self._num_samples)
        return log_likelihood - support.divergence_from_prior(log_posterior)
