import math

import torch

from regattn_allennlp.modules.latent_alignment.gradient_estimators.gradient_estimator import GradientEstimator
from regattn_allennlp.modules.latent_alignment.latent_alignment import AlignmentQueries
from regattn_allennlp.modules.latent_alignment.prior_support import PriorSupport
from regattn_allennlp.modules.require_at_least import require_at_least


@GradientEstimator.register("wake_sleep")
class WakeSleepEstimator(GradientEstimator):
    """
    Reweighted wake-sleep (Bornschein & Bengio 2015, arXiv 1406.2751), with its wake phases. Samples z_1..z_K of q are
    given the importance weights w_k = p(z_k) p(y | x_{z_k}) / q(z_k). The objective's value is log(1/K sum_k w_k),
    whose mean lies between the ELBO and the log marginal, and rises with K. With the weights normalized to sum to 1,
    its gradient is

        sum_k w_k grad log(p(z_k) p(y | x_{z_k}))    for prior and likelihood: the log marginal's as K grows,
        sum_k w_k grad log q(z_k)                    for q, which so comes near the true posterior p(z | y).

    Both are biased, by a term of order 1 / K.

    Registered as a `GradientEstimator` with name "wake_sleep".

    # Parameters

    num_samples : `int`, optional (default = `5`)
        K, at least 2: the gradient for q from a single sample is 0 in the mean.
    """

    def __init__(self, num_samples: int = 5) -> None:
        super().__init__()
        require_at_least(2, num_samples, "num_samples", " for wake_sleep (from one sample q learns nothing)")
        self._num_samples = num_samples

    def objective(self, queries: AlignmentQueries, support: PriorSupport, log_posterior: torch.Tensor) -> torch.Tensor:
        # Shape: (num_queries, num_samples)
        samples = support.sample(log_posterior, self._num_samples)
        log_posterior = log_posterior.gather(1, samples)
        log_joint = support.log_prior.gather(1, samples) + support.log_likelihood_of_samples(queries, samples)
        log_importance = log_joint - log_posterior.detach()
        wake_phase = (log_importance.softmax(-1).detach() * (log_posterior - log_posterior.detach())).sum(-1)
        return log_importance.logsumexp(-1) - math.log(self._num_samples) + wake_phase
