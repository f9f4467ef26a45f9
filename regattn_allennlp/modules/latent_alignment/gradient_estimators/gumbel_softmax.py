from typing import Union

import torch
from allennlp.common.checks import ConfigurationError

from regattn_allennlp.modules.latent_alignment.gradient_estimators.elbo_estimator import ElboEstimator
from regattn_allennlp.modules.latent_alignment.gradient_estimators.gradient_estimator import GradientEstimator
from regattn_allennlp.modules.latent_alignment.latent_alignment import AlignmentQueries
from regattn_allennlp.modules.latent_alignment.prior_support import PriorSupport, gumbel_noise
from regattn_allennlp.modules.require_at_least import require_at_least
from regattn_allennlp.modules.schedule import Schedule, ends, next_number


@GradientEstimator.register("gumbel_softmax")
class GumbelSoftmaxEstimator(ElboEstimator):
    """
    Samples of q relaxed to mixtures of positions, softmax((log q + Gumbel noise) / temperature) (Jang et al. 2017,
    arXiv 1611.01144; Maddison et al. 2017, arXiv 1611.00712): gradients pass through the samples; the KL, of the
    categorical distributions, in closed form. Value and gradient are biased: the likelihood is of mixtures, which
    differ from single positions the less the lower the temperature, while the gradient's variance grows.

    Registered as a `GradientEstimator` with name "gumbel_softmax".

    # Parameters

    temperature : `Union[float, Schedule]`, optional (default = `0.1`)
        Above 0. The default is that of the variational attention's authors; with 1, mixtures are far from positions.
        It may fall during training: `{"initial": 1.0, "final": 0.1, "num_batches": 5000, "exponential": true}`. See
        `Schedule`.
    straight_through : `bool`, optional (default = `False`)
        The likelihood is of single positions, the largest of each mixture (so the value is unbiased), and the
        gradient is taken as if it were of the mixture.
    num_samples : `int`, optional (default = `1`)
        How many mixtures are sampled for each query.
    kl_weight : `Union[float, Schedule]`, optional (default = `1.0`)
        See `ElboEstimator`.
    """

    def __init__(
        self,
        temperature: Union[float, Schedule] = 0.1,
        straight_through: bool = False,
        num_samples: int = 1,
        kl_weight: Union[float, Schedule] = 1.0,
    ) -> None:
        super().__init__(kl_weight)
        if not min(ends(temperature)) > 0:
            raise ConfigurationError(f'"temperature" must be above 0, but is {min(ends(temperature))}')
        require_at_least(1, num_samples, "num_samples")
        self._temperature = temperature
        self._straight_through = straight_through
        self._num_samples = num_samples

    def expected_log_likelihood(
        self, queries: AlignmentQueries, support: PriorSupport, log_posterior: torch.Tensor
    ) -> torch.Tensor:
        num_queries, num_positions = queries.weights.size()
        # Shape: (num_queries, num_samples, size)
        scores = support.without_filler(log_posterior).unsqueeze(1).expand(-1, self._num_samples, -1)
        samples = ((scores + gumbel_noise(scores)) / next_number(self._temperature)).softmax(-1)
        if self._straight_through:
            one_hot = torch.zeros_like(samples).scatter(-1, samples.argmax(-1, keepdim=True), 1.0)
            samples = one_hot + (samples - samples.detach())
        # Shape: (num_queries, num_samples, num_positions)
        weights = samples.new_zeros(num_queries, self._num_samples, num_positions).scatter(
            -1, support.positions.unsqueeze(1).expand_as(samples), samples
        )
        numbers = torch.arange(num_queries, device=weights.device)
        return queries.log_likelihood_of_mixtures(weights.to(queries.values.dtype), numbers).mean(1)
