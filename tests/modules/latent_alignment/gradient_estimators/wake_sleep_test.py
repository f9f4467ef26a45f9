import itertools

import pytest
import torch

from regattn_allennlp.operators import Softmax, Sparsemax
from tests.modules.latent_alignment.common import assert_means, build, estimates, replicas

NAMES = ("scores", "posterior_scores", "values")


def alignment(num_samples):
    return build({"type": "variational", "estimator": {"type": "wake_sleep", "num_samples": num_samples}})


def two_samples_enumerated(operator):
    """The expected value and gradients of two samples, by going through all pairs of positions."""
    one = replicas(1)
    weights = operator(one.scores, one.mask)[0]
    support = (weights > 0).nonzero().flatten().tolist()
    posterior = dict(zip(support, one.posterior_scores[0][support].softmax(0), strict=True))
    likelihoods = one.log_likelihoods()[0].exp()
    value, gradients = 0.0, [torch.zeros_like(getattr(one, name)[0]) for name in NAMES]
    for pair in itertools.product(support, repeat=2):
        probability = (posterior[pair[0]] * posterior[pair[1]]).detach()
        importance = [(weights[z] * likelihoods[z] / posterior[z]).detach() for z in pair]
        value += probability * (sum(importance) / 2).log()
        for z, weight in zip(pair, importance, strict=True):
            target = (weights[z] * likelihoods[z] * posterior[z]).log() * weight / sum(importance)
            for total, gradient in zip(
                gradients,
                torch.autograd.grad(target, [getattr(one, name) for name in NAMES], retain_graph=True),
                strict=True,
            ):
                total += probability * gradient[0]
    return {"value": value, **dict(zip(NAMES, gradients, strict=True))}


@pytest.mark.parametrize("operator", [Softmax(), Sparsemax(gamma=2.0)], ids=str)
def test_two_samples_have_the_expected_value_and_gradients(operator):
    module = alignment(2)
    estimated = estimates(lambda many: module.objective(many.queries(operator), many.posterior_scores), 20_000)
    assert_means(estimated, two_samples_enumerated(operator))


def test_with_more_samples_it_comes_near_the_log_marginal_and_the_true_posterior():
    one = replicas(1)
    queries = one.queries()
    log_marginal = build("exact").objective(queries).sum()
    gradients = torch.autograd.grad(log_marginal, (one.scores, one.values), retain_graph=True)
    true_posterior = (queries.weights.log() + one.log_likelihoods()).softmax(-1).detach()
    cross_entropy = (true_posterior * one.posterior_scores.log_softmax(-1)).sum()
    wake = torch.autograd.grad(cross_entropy, one.posterior_scores)[0]
    expected = {"value": log_marginal, "scores": gradients[0], "values": gradients[1], "posterior_scores": wake}

    def bias(num_samples: int, number: int) -> dict[str, float]:
        module = alignment(num_samples)
        estimated = estimates(lambda many: module.objective(many.queries(), many.posterior_scores), number)
        return {name: (estimated[name].mean(0) - value).abs().max().item() for name, value in expected.items()}

    few, some, many = bias(2, 20_000), bias(12, 20_000), bias(100, 4000)
    for name in expected:
        assert few[name] > 3 * some[name] > 9 * many[name], (name, few, some, many)
        assert many[name] < 0.03, name
