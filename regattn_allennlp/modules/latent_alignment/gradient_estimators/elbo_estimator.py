from typing import Union

import torch
from allennlp.common.checks import ConfigurationError

from regattn_allennlp.modules.latent_alignment.gradient_estimators.gradient_estimator import GradientEstimator
from regattn_allennlp.modules.latent_alignment.latent_alignment import AlignmentQueries
from regattn_allennlp.modules.latent_alignment.prior_support import PriorSupport
from regattn_allennlp.modules.schedule import Schedule, ends, next_number


class ElboEstimator(GradientEstimator):
    """
    E_q[log p(y | x_z)], as a subclass has it, less the KL of the categorical distributions in closed form.

    # Parameters

    kl_weight : `Union[float, Schedule]`, optional (default = `1.0`)
        At least 0. What the KL is multiplied by. Other than 1 the objective is no bound of the log marginal any more;
        to begin with a small one and end with 1 is usual (Bowman et al. 2016, arXiv 1511.06349, section 3.1):
        `{"initial": 0.0, "final": 1.0, "num_batches": 5000}`. See `Schedule`.
    """

    def __init__(self, kl_weight: Union[float, Schedule] = 1.0) -> None:
        super().__init__()
        self._kl_weight = require_kl_weight(kl_weight)

    def expected_log_likelihood(
        self, queries: AlignmentQueries, support: PriorSupport, log_posterior: torch.Tensor
    ) -> torch.Tensor:
        """E_q[log p(y | x_z)] of each query or an estimate of it; parameters as of `objective`."""
        raise NotImplementedError

    def objective(self, queries: AlignmentQueries, support: PriorSupport, log_posterior: torch.Tensor) -> torch.Tensor:
        expected = self.expected_log_likelihood(queries, support, log_posterior)
        return expected - next_number(self._kl_weight) * support.divergence_from_prior(log_posterior)


def require_kl_weight(kl_weight: float | Schedule) -> float | Schedule:
    """`kl_weight` itself; a ConfigurationError if it is ever below 0."""
    if min(ends(kl_weight)) < 0:
        raise ConfigurationError(f'"kl_weight" must be at least 0, but is {min(ends(kl_weight))}')
    return kl_weight
