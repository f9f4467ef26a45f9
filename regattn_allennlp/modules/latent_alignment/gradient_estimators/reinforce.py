from typing import Union

import torch

from regattn_allennlp.modules.latent_alignment.gradient_estimators.elbo_estimator import ElboEstimator
from regattn_allennlp.modules.latent_alignment.gradient_estimators.gradient_estimator import GradientEstimator
from regattn_allennlp.modules.latent_alignment.latent_alignment import AlignmentQueries
from regattn_allennlp.modules.latent_alignment.prior_support import PriorSupport
from regattn_allennlp.modules.latent_alignment.score_function import sampled_log_likelihood
from regattn_allennlp.modules.require_at_least import require_at_least
from regattn_allennlp.modules.schedule import Schedule


@GradientEstimator.register("reinforce")
class ReinforceEstimator(ElboEstimator):
    """
    E_q[log p(y | x_z)] from samples of q, with the score function gradient, whose baseline is soft attention's
    log p(y | E_p[x_z]); the KL in closed form. Value and gradient are unbiased. The likelihood is computed for the
    samples and for the baseline.

    Registered as a `GradientEstimator` with name "reinforce".

    # Parameters

    num_samples : `int`, optional (default = `1`)
        How many positions are sampled for each query.
    kl_weight : `Union[float, Schedule]`, optional (default = `1.0`)
        See `ElboEstimator`.
    """

    def __init__(self, num_samples: int = 1, kl_weight: Union[float, Schedule] = 1.0) -> None:
        super().__init__(kl_weight)
        require_at_least(1, num_samples, "num_samples")
        self._num_samples = num_samples

    def expected_log_likelihood(
        self, queries: AlignmentQueries, support: PriorSupport, log_posterior: torch.Tensor
    ) -> torch.Tensor:
        return sampled_log_likelihood(queries, support, log_posterior, self._num_samples)
