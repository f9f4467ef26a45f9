import pytest
import torch

from regattn_allennlp.operators import Softmax, Sparsemax
from tests.modules.latent_alignment.common import assert_means, build, estimates, problem, replicas


def enumerated(operator):
    one = replicas(1)
    expectation = (operator(one.scores, one.mask) * one.log_likelihoods()).sum()
    gradients = torch.autograd.grad(expectation, (one.scores, one.values))
    return {"value": expectation.detach(), "scores": gradients[0][0], "values": gradients[1][0]}


@pytest.mark.parametrize("num_samples", [1, 3])
@pytest.mark.parametrize("operator", [Softmax(), Sparsemax(gamma=2.0)], ids=str)
def test_value_and_gradients_are_unbiased(num_samples, operator):
    alignment = build({"type": "hard", "num_samples": num_samples})
    assert_means(estimates(lambda many: alignment.objective(many.queries(operator)), 20_000), enumerated(operator))


def test_it_is_a_lower_bound_of_the_log_marginal():
    example = problem()
    queries = example.queries()
    objective = build({"type": "hard", "num_samples": 5000}).objective(queries)
    assert (objective < build("hard").log_marginal(queries)).all()


def test_it_repeats_under_a_seed():
    queries = problem(queries_per_item=20).queries()
    alignment = build("hard")
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        results.append(alignment.objective(queries))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])
