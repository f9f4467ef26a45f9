import pytest
import torch

from regattn_allennlp.modules.latent_alignment import PriorSupport
from regattn_allennlp.modules.latent_alignment.score_function import with_score_function
from regattn_allennlp.operators import Softmax, Sparsemax
from tests.modules.latent_alignment.common import assert_means, build, estimates, replicas


def enumerated(operator):
    one = replicas(1)
    elbo = build("variational").objective(one.queries(operator), one.posterior_scores).sum()
    gradients = torch.autograd.grad(elbo, (one.scores, one.posterior_scores, one.values))
    names = ("scores", "posterior_scores", "values")
    return {"value": elbo.detach(), **{name: g[0] for name, g in zip(names, gradients, strict=True)}}


@pytest.mark.parametrize("num_samples", [1, 3])
@pytest.mark.parametrize("operator", [Softmax(), Sparsemax(gamma=2.0)], ids=str)
def test_value_and_gradients_are_unbiased(num_samples, operator):
    alignment = build({"type": "variational", "estimator": {"type": "reinforce", "num_samples": num_samples}})
    assert_means(
        estimates(lambda many: alignment.objective(many.queries(operator), many.posterior_scores), 20_000),
        enumerated(operator),
    )


def test_the_baseline_makes_the_gradient_less_noisy():
    torch.manual_seed(1)
    many = replicas(5000)
    queries = many.queries()
    support = PriorSupport(queries)
    log_posterior = support.posterior(many.posterior_scores)
    samples = support.sample(log_posterior, 1)
    rewards = support.log_likelihood_of_samples(queries, samples)
    variances = []
    for baseline in (queries.log_likelihood_of_mixture(queries.weights).unsqueeze(1), torch.zeros_like(rewards)):
        estimate = with_score_function(rewards, log_posterior.gather(1, samples), baseline)
        gradient = torch.autograd.grad(estimate.sum(), many.posterior_scores, retain_graph=True)[0]
        variances.append(gradient.var(0).sum())
    assert variances[0] < 0.5 * variances[1]
