import torch

from regattn_allennlp.modules.latent_alignment.latent_alignment import AlignmentQueries
from regattn_allennlp.modules.latent_alignment.prior_support import PriorSupport


def sampled_log_likelihood(
    queries: AlignmentQueries, support: PriorSupport, log_probabilities: torch.Tensor, num_samples: int
) -> torch.Tensor:
    """
    E_z[log p(y | x_z)] estimated from samples of z. Its gradient is an unbiased estimate of the expectation's, with
    respect to the likelihood and to the probabilities of z: the score function estimator (Williams 1992), with soft
    attention's log p(y | E_p[x_z]) as its baseline (Deng et al. 2018, arXiv 1807.03756, section 3.1).

    # Parameters

    log_probabilities : `torch.Tensor`
        Shape (num_queries, size): of z on the support.

    # Returns

    Shape (num_queries,).
    """
    # Shape: (num_queries, num_samples)
    samples = support.sample(log_probabilities, num_samples)
    log_likelihood = support.log_likelihood_of_samples(queries, samples)
    with torch.no_grad():
        baseline = queries.log_likelihood_of_expectation().unsqueeze(1)
    return with_score_function(log_likelihood, log_probabilities.gather(1, samples), baseline).mean(1)


def with_score_function(
    rewards: torch.Tensor, log_probabilities: torch.Tensor, baseline: torch.Tensor
) -> torch.Tensor:
    """
    The `rewards` of samples, with the gradient of their own and (rewards - baseline) times that of the samples'
    `log_probabilities`.
    """
    return rewards + (rewards - baseline).detach() * (log_probabilities - log_probabilities.detach())
