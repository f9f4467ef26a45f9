import pytest
import torch
from allennlp.common.checks import ConfigurationError

from regattn_allennlp.modules.latent_alignment import PriorSupport
from regattn_allennlp.operators import Softmax, Sparsemax
from tests.modules.latent_alignment.common import assert_means, build, estimates, problem, replicas


def alignment(**config):
    return build({"type": "variational", "estimator": {"type": "gumbel_softmax", **config}})


@pytest.mark.parametrize("operator", [Softmax(), Sparsemax(gamma=3.0)], ids=str)
def test_at_fixed_noise_the_gradient_is_that_of_finite_differences(operator):
    example = problem(queries_per_item=1)
    module = alignment(temperature=0.7, num_samples=2)

    def objective(scores, posterior_scores, values):
        torch.manual_seed(5)
        example.scores, example.values = scores, values
        return module.objective(example.queries(operator), posterior_scores)

    assert torch.autograd.gradcheck(objective, (example.scores, example.posterior_scores, example.values))


def test_at_a_low_temperature_the_mixtures_are_samples_of_q():
    def cold(many):
        return alignment(temperature=1e-6).objective(many.queries(), many.posterior_scores)

    one = replicas(1)
    elbo = build("variational").objective(one.queries(), one.posterior_scores)
    assert_means({"value": estimates(cold, 20_000)["value"]}, {"value": elbo[0].detach()})


def test_straight_through_has_the_value_of_single_positions_and_the_gradient_of_mixtures():
    example = problem()
    queries = example.queries()
    results = {}
    for name, module in {
        "straight": alignment(temperature=0.8, straight_through=True),
        "cold": alignment(temperature=1e-9),
        "relaxed": alignment(temperature=0.8),
    }.items():
        torch.manual_seed(6)
        value = module.objective(queries, example.posterior_scores)
        results[name] = value, torch.autograd.grad(value.sum(), example.posterior_scores, retain_graph=True)[0]
    torch.testing.assert_close(results["straight"][0], results["cold"][0])
    divergence = -PriorSupport(queries).divergence_from_prior(
        PriorSupport(queries).posterior(example.posterior_scores)
    )
    of_divergence = torch.autograd.grad(divergence.sum(), example.posterior_scores)[0]
    # A sample that no gradient passes through has the divergence's alone.
    torch.testing.assert_close(results["cold"][1], of_divergence)
    assert ((results["straight"][1] - of_divergence).abs() > 1e-4)[example.mask].all()


def test_with_a_linear_likelihood_straight_through_has_the_gradient_of_the_mixture():
    example = problem()
    queries = example.queries()
    queries.log_likelihood = lambda contexts, numbers: contexts.sum(-1)
    gradients = []
    for straight_through in (True, False):
        torch.manual_seed(7)
        objective = alignment(straight_through=straight_through).objective(queries, example.posterior_scores)
        gradients.append(torch.autograd.grad(objective.sum(), example.posterior_scores, retain_graph=True)[0])
    torch.testing.assert_close(*gradients)


def test_the_temperature_falls_from_batch_to_batch():
    example = problem()
    queries = example.queries()
    schedule = {"initial": 2.0, "final": 0.02, "num_batches": 2, "exponential": True}
    annealed = alignment(temperature=schedule)
    for temperature in (2.0, 0.2, 0.02, 0.02):
        values = []
        for module in (annealed, alignment(temperature=temperature)):
            torch.manual_seed(8)
            values.append(module.objective(queries, example.posterior_scores))
        torch.testing.assert_close(*values)


def test_a_temperature_that_comes_to_0_is_named():
    with pytest.raises(ConfigurationError, match=r'"temperature" must be above 0, but is 0\.0'):
        alignment(temperature={"initial": 1.0, "final": 0.0, "num_batches": 5})
