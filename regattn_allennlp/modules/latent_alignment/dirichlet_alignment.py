import math
from collections.abc import Callable
from typing import Optional, Union

import torch
from allennlp.common import Lazy
from allennlp.common.checks import ConfigurationError
from allennlp.modules.attention import Attention

from regattn_allennlp.modules.attention import RegularizedAttention
from regattn_allennlp.modules.inference_networks import BilinearInferenceNetwork, InferenceNetwork
from regattn_allennlp.modules.latent_alignment.dirichlet import (
    dirichlet_divergence,
    sample_dirichlet,
    sample_dirichlet_at_fixed_noise,
)
from regattn_allennlp.modules.latent_alignment.gradient_estimators import require_kl_weight
from regattn_allennlp.modules.latent_alignment.latent_alignment import AlignmentQueries, LatentAlignment
from regattn_allennlp.modules.latent_alignment.query_chunks import in_query_chunks
from regattn_allennlp.modules.require_at_least import require_at_least
from regattn_allennlp.modules.schedule import Schedule, next_number
from regattn_allennlp.operators import Softmax

# The logarithm of a row's largest concentration is as the scores say within this distance of 0; beyond, it comes
# nearer and nearer to one more. There a Dirichlet is as good as its mean, or as a choice of one position. The row is
# shifted as a whole, which leaves its mean as it is.
MAX_LOG_CONCENTRATION = 6.0
# That of a posterior's concentration is as the scores say down to this; below, it comes nearer and nearer to one
# less: to a concentration of 0.01, the least that the variational attention's authors have. Where the prior expects
# much, the KL grows with the prior's concentration divided by the posterior's.
MIN_POSTERIOR_LOG_CONCENTRATION = math.log(0.01) + 1
# A prior's concentrations are at most one more than this below the row's largest, in logarithms: 1 / concentration
# squared is still a float64.
PRIOR_SPREAD = 40.0


@LatentAlignment.register("dirichlet")
class DirichletAlignment(LatentAlignment):
    """
    Relaxed variational attention (Deng et al. 2018, arXiv 1807.03756, section 3.2): z is a point of the simplex, and
    what y is made of the mixture sum_i z_i x_i. The prior is Dir(exp(scores / gamma)), whose mean is softmax's
    weights; q, which the inference network makes, is Dir(exp(posterior scores)). Training maximizes

        E_q[log p(y | sum_i z_i x_i)] - KL(q || p)

    by reparameterized samples of q, with the KL in closed form, in float64 throughout. Concentrations are bounded,
    softly: the largest of a row lies between exp(-7) and exp(7) (larger or smaller scores are shifted together, which
    leaves the mean as it is), and none of q's is below 0.01. So the KL is about 1e5 for a query at most,
    however much the two disagree, and a q beyond its bounds still has a gradient that leads back.

    As its authors say, it learns badly from nothing: first let the model learn from E_p[log p(y | sum_i z_i x_i)], by
    `warm_up_batches`, or start from a trained model of soft attention, by the initializer "pretrained".

    `log_marginal` is the logarithm of a Monte Carlo mean of p(y | sum_i z_i x_i) over the prior, from random numbers
    fixed once for all: evaluations are repeatable, a query's result is the same in every batch, and the global random
    state is untouched. The mean is unbiased for the probability, and over all outcomes it sums to 1; its logarithm is
    too low by about the mean's relative variance, divided by twice the number of samples.

    Registered as a `LatentAlignment` with name "dirichlet".

    # Parameters

    num_samples : `int`, optional (default = `1`)
        How many samples of q training takes for each query.
    num_marginal_samples : `int`, optional (default = `20`)
        How many samples of the prior `log_marginal` and `posterior` take for each query.
    kl_weight : `Union[float, Schedule]`, optional (default = `1.0`)
        As of the estimators of "variational".
    prior_in_posterior : `bool`, optional (default = `True`)
        If false, q is Dir(exp(posterior scores)): the network has to find out the prior's concentrations for itself,
        and as long as it has not, the KL keeps the prior flat. The prior gets no gradient through q.
    warm_up_batches : `int`, optional (default = `0`)
        For so many batches at first, training maximizes E_p[log p(y | sum_i z_i x_i)], by samples of the prior: where
        q is the prior, this is the ELBO. The number of batches is saved with the weights.
    source_dim : `int`, optional (default = `None`)
        Of the embedded source, in models that have one: for the inference network.
    inference_network : `Lazy[InferenceNetwork]`, optional (default = "bilinear")
        It gets the sizes of its inputs from here.
    attention, memory_dim, query_dim, target_dim
        See `LatentAlignment`.

    # Raises

    `ConfigurationError` for numbers below 1, and for any attention but this package's "softmax": the mean of a
    Dirichlet has no zeros, so no sparse attention is one's mean; and AllenNLP's own attentions keep their scores to
    themselves.
    """

    def __init__(
        self,
        attention: Attention,
        memory_dim: int,
        query_dim: int,
        target_dim: int,
        num_samples: int = 1,
        num_marginal_samples: int = 20,
        inference_network: Lazy[InferenceNetwork] = Lazy(BilinearInferenceNetwork),  # noqa: B008
        kl_weight: Union[float, Schedule] = 1.0,
        prior_in_posterior: bool = True,
        warm_up_batches: int = 0,
        source_dim: Optional[int] = None,
    ) -> None:
        super().__init__(attention, memory_dim, query_dim, target_dim)
        if not isinstance(attention, RegularizedAttention):
            raise ConfigurationError(
                'the latent alignment "dirichlet" makes its prior of the attention\'s scores, which '
                f"{type(attention).__name__} does not give: take the attention "
                '{"type": "softmax", "similarity": ...} with the similarity of that kind'
            )
        if not isinstance(attention.regularized_max, Softmax):
            raise ConfigurationError(
                'the latent alignment "dirichlet" needs the attention "softmax": the mean of a Dirichlet distribution '
                f"has no zeros, so the weights of {type(attention.regularized_max).__name__} cannot be one's"
            )
        require_at_least(1, num_samples, "num_samples")
        require_at_least(1, num_marginal_samples, "num_marginal_samples")
        # For its gamma. In a tuple, for a learned gamma is a parameter of the attention and not of this module too.
        self._attention = (attention,)
        self._num_samples = num_samples
        self._num_marginal_samples = num_marginal_samples
        self.inference_network = inference_network.construct(
            memory_dim=memory_dim, query_dim=query_dim, target_dim=target_dim, source_dim=source_dim
        )
        self._kl_weight = require_kl_weight(kl_weight)
        self._prior_in_posterior = prior_in_posterior
        require_at_least(0, warm_up_batches, "warm_up_batches")
        self._warming_up = None
        if warm_up_batches:
            self._warming_up = Schedule(initial=1.0, final=0.0, num_batches=warm_up_batches)

    def objective(self, queries: AlignmentQueries, posterior_scores: Optional[torch.Tensor] = None) -> torch.Tensor:
        # Shape (both): (num_queries, num_positions)
        posterior = self._log_posterior_concentration(queries, posterior_scores)
        prior = self._log_prior_concentration(queries)
        kl_weight = next_number(self._kl_weight)
        if self._warming_up is not None and self._warming_up.next() > 0:
            # All parameters have a gradient, as distributed training wants it.
            sampled, divergence = prior, 0.0 * posterior.sum()
        else:
            sampled, divergence = posterior, kl_weight * dirichlet_divergence(posterior, prior, queries.mask)
        # Shape: (num_queries, num_samples, num_positions)
        mixtures = sample_dirichlet(sampled, queries.mask, self._num_samples).to(queries.values.dtype)
        numbers = torch.arange(len(mixtures), device=mixtures.device)
        log_likelihood = queries.log_likelihood_of_mixtures(mixtures, numbers).mean(1)
        return log_likelihood - divergence.to(log_likelihood.dtype)

    def log_marginal(self, queries: AlignmentQueries) -> torch.Tensor:
        def log_marginal_of(log_likelihood: torch.Tensor, mixtures: torch.Tensor) -> torch.Tensor:
            return log_likelihood.logsumexp(1) - math.log(self._num_marginal_samples)

        return self._of_prior_samples(queries, log_marginal_of)

    def posterior(self, queries: AlignmentQueries) -> torch.Tensor:
        """
        The posterior's mean, E[z | x, q, y]. It has no closed form: this is a Monte Carlo estimate, the mean of the
        prior samples that `log_marginal` takes, each weighted by its share of their likelihoods. Few samples are near
        a posterior that is far from the prior: more `num_marginal_samples` make it, and the marginal, better.
        """

        def mean_of(log_likelihood: torch.Tensor, mixtures: torch.Tensor) -> torch.Tensor:
            return torch.bmm(log_likelihood.softmax(1).unsqueeze(1), mixtures).squeeze(1)

        return self._of_prior_samples(queries, mean_of)

    def _of_prior_samples(
        self, queries: AlignmentQueries, function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """
        `function(log_likelihood, mixtures)` of the samples of each query, always the same; `mixtures` has the shape
        (num_numbers, num_marginal_samples, num_positions), `log_likelihood` its first two dimensions and, where it is
        of all outcomes, num_outcomes.
        """
        prior = self._log_prior_concentration(queries)

        def of_numbers(numbers: torch.Tensor) -> torch.Tensor:
            mixtures = sample_dirichlet_at_fixed_noise(
                prior[numbers], queries.mask[numbers], self._num_marginal_samples
            ).to(queries.values.dtype)
            return function(queries.log_likelihood_of_mixtures(mixtures, numbers), mixtures)

        return in_query_chunks(of_numbers, len(prior), self._num_marginal_samples, prior.device)

    def approximate_posterior(
        self, queries: AlignmentQueries, posterior_scores: Optional[torch.Tensor] = None
    ) -> torch.Tensor:
        """The mean of the inference network's Dirichlet distribution."""
        log_concentration = self._log_posterior_concentration(queries, posterior_scores)
        return log_concentration.masked_fill(~queries.mask, -torch.inf).softmax(-1).to(queries.values.dtype)

    def _log_posterior_concentration(
        self, queries: AlignmentQueries, posterior_scores: Optional[torch.Tensor]
    ) -> torch.Tensor:
        assert posterior_scores is not None, "the model gives what the inference network says"
        if self._prior_in_posterior:
            posterior_scores = posterior_scores + self._prior_scores(queries).detach()
        log_concentration = _log_concentration(posterior_scores, queries.mask)
        return _softly_at_least(log_concentration, MIN_POSTERIOR_LOG_CONCENTRATION)

    def _log_prior_concentration(self, queries: AlignmentQueries) -> torch.Tensor:
        prior = _log_concentration(self._prior_scores(queries), queries.mask)
        largest = prior.amax(-1, keepdim=True)
        return largest + _softly_at_least(prior - largest, -PRIOR_SPREAD)

    def _prior_scores(self, queries: AlignmentQueries) -> torch.Tensor:
        assert queries.scores is not None, "a RegularizedAttention gives its scores"
        (attention,) = self._attention
        return queries.scores / attention.regularized_max.gamma


def _softly_at_least(values: torch.Tensor, minimum: float) -> torch.Tensor:
    """
    The values themselves down to the `minimum`; those below come nearer and nearer to `minimum` - 1, slowly enough
    that their gradient leads back from anywhere.
    """
    # Shape: as that of the values
    below = (values - minimum).clamp(max=0.0)
    return values.clamp(min=minimum) + below / (1 - below)


def _log_concentration(scores: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The scores in float64, each row shifted so that its largest is in bounds; 0 where the mask is false."""
    scores = scores.double().masked_fill(~mask, -torch.inf)
    largest = scores.amax(-1, keepdim=True)
    bounded = -_softly_at_least(-_softly_at_least(largest, -MAX_LOG_CONCENTRATION), -MAX_LOG_CONCENTRATION)
    shifted = scores - largest + bounded
    return shifted.masked_fill(~mask, 0.0)
