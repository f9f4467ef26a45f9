import torch
from allennlp.common.checks import ConfigurationError

from regattn_allennlp.modules.latent_alignment.gradient_estimators.gradient_estimator import GradientEstimator
from regattn_allennlp.modules.latent_alignment.latent_alignment import AlignmentQueries
from regattn_allennlp.modules.latent_alignment.prior_support import PriorSupport, gumbel_noise
from regattn_allennlp.modules.require_at_least import require_at_least


@GradientEstimator.register("gumbel_softmax")
class GumbelSoftmaxEstimator(GradientEstimator):
    """
    Samples of q relaxed to mixtures of positions, softmax((log q + Gumbel noise) / temperature) (Jang et al. 2017,
    arXiv 1611.01144; Maddison et al. 2017, arXiv 1611.00712): gradients pass through the samples; the KL, of the
    categorical distributions, in closed form. Value and gradient are biased: the likelihood is of mixtures, which
    differ from single positions the less the lower the temperature, while the gradient's variance grows.

    Registered as a `GradientEstimator` with name "gumbel_softmax".

    # Parameters

    temperature : `float`, optional (default = `1.0`)
        Above 0.
    straight_through : `bool`, optional (default = `False`)
        The likelihood is of single positions, the largest of each mixture (so the value is unbiased), and the
        gradient is taken as if it were of the mixture.
    num_samples : `int`, optional (default = `1`)
        How many mixtures are sampled for each query.
    """

    def __init__(self, temperature: float = 1.0, straight_through: bool = False, num_samples: int = 1) -> None:
        if not temperature > 0:
            raise ConfigurationError(f'"temperature" must be above 0, but is {temperature}')
        require_at_least(1, num_samples, "num_samples")
        self._temperature = temperature
        self._straight_through = straight_through
        self._num_samples = num_samples

    def objective(self, queries: AlignmentQueries, support: PriorSupport, log_posterior: torch.Tensor) -> torch.Tensor:
        num_queries, num_positions = queries.weights.size()
        # Shape: (num_queries, num_samples, size)
        scores = support.without_filler(log_posterior).unsqueeze(1).expand(-1, self._num_samples, -1)
        samples = ((scores + gumbel_noise(scores)) / self._temperature).softmax(-1)
        if self._straight_through:
            one_hot = torch.zeros_like(samples).scatter(-1, samples.argmax(-1, keepdim=True), 1.0)
            samples = one_hot + (samples - samples.detach())
        # Shape: (num_queries, num_samples, num_positions)
        weights = samples.new_zeros(num_queries, self._num_samples, num_positions).scatter(
            -1, support.positions.unsqueeze(1).expand_as(samples), samples
        )
        numbers = torch.arange(num_queries, device=weights.device)
        log_likelihood = queries.log_likelihood_of_mixtures(weights.to(queries.values.dtype), numbers).mean(1)
        return log_likelihood - support.divergence_from_prior(log_posterior)
