import pytest
import torch

from regattn_allennlp.operators import Fusedmax, Oscarmax, Softmax, Sparsemax
from tests.modules.latent_alignment.common import build, problem

# Of all three the support at these scores stays the same in a neighbourhood, and is not everything.
STABLE_SCORES = torch.tensor([[0.1, 0.75, 1.2, -2.0, 0.9], [2.0, -3.0, 1.65, 0.0, 0.0]], dtype=torch.float64)


def stable_problem():
    example = problem(queries_per_item=1)
    example.scores = STABLE_SCORES.clone().requires_grad_()
    return example


@pytest.mark.parametrize("operator", [Softmax(), Sparsemax(), Fusedmax(lam=0.3)], ids=str)
def test_the_objective_and_its_gradients_are_those_of_the_sum(operator):
    example = problem()
    objective = build("exact").objective(example.queries(operator))
    weights = operator(example.scores, example.mask)
    expected = (weights * example.log_likelihoods().exp()).sum(-1).log()
    torch.testing.assert_close(objective, expected)
    leaves = [leaf for name, leaf in example.leaves().items() if name != "posterior_scores"]
    # Uneven, lest the gradients of the queries cancel.
    factors = torch.linspace(-1, 2, len(objective), dtype=torch.float64)
    for gradient, other in zip(
        torch.autograd.grad(objective @ factors, leaves), torch.autograd.grad(expected @ factors, leaves), strict=True
    ):
        torch.testing.assert_close(gradient, other)


@pytest.mark.parametrize("operator", [Sparsemax(), Fusedmax(lam=0.1), Oscarmax(lam=0.02)], ids=str)
@pytest.mark.parametrize("alignment", ["exact", "variational"])
def test_gradients_through_a_sparse_prior_are_those_of_finite_differences(operator, alignment):
    example = stable_problem()
    weights = example.queries(operator).weights
    assert ((weights == 0) & example.mask).any(-1).any() and ((weights > 0).sum(-1) > 1).all()
    module = build(alignment)

    def objective(scores, posterior_scores, values):
        example.scores, example.posterior_scores, example.values = scores, posterior_scores, values
        return module.objective(example.queries(operator), posterior_scores)

    assert torch.autograd.gradcheck(objective, (example.scores, example.posterior_scores, example.values))


def test_of_a_one_hot_prior_it_is_soft_attention():
    example = problem()
    queries = example.queries()
    queries.weights = torch.zeros_like(queries.weights)
    queries.weights[torch.arange(6), torch.tensor([0, 4, 2, 1, 0, 2])] = 1.0
    torch.testing.assert_close(build("exact").objective(queries), build("soft").objective(queries))


def test_of_other_priors_it_is_not_soft_attention():
    queries = problem().queries()
    assert ((build("exact").objective(queries) - build("soft").objective(queries)).abs() > 1e-3).all()
