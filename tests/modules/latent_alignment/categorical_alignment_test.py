import math

import pytest
import torch
from allennlp.common.checks import ConfigurationError
from hypothesis import given, settings
from hypothesis import strategies as st

from regattn_allennlp.modules.latent_alignment import query_chunks
from regattn_allennlp.operators import Fusedmax, Oscarmax, Softmax, Sparsemax
from tests.modules.latent_alignment.common import build, problem

CATEGORICAL = ["exact", "hard", "variational"]
OPERATORS = [Softmax(), Sparsemax(), Fusedmax(lam=0.3), Oscarmax(lam=0.05)]


@pytest.mark.parametrize("alignment", CATEGORICAL)
@pytest.mark.parametrize("operator", OPERATORS, ids=str)
def test_the_marginal_is_the_sum_over_positions(alignment, operator):
    example = problem()
    queries = example.queries(operator)
    expected = (queries.weights * example.log_likelihoods().exp()).sum(-1)
    torch.testing.assert_close(build(alignment).log_marginal(queries).exp(), expected)


@given(
    alignment=st.sampled_from([*CATEGORICAL, {"type": "exact", "marginal_top_k": 1}]),
    operator=st.sampled_from(OPERATORS),
    seed=st.integers(0, 1000),
    scale=st.floats(0.0, 5.0),
)
@settings(max_examples=60, deadline=None)
def test_the_posterior_is_that_of_bayes_rule(alignment, operator, seed, scale):
    example = problem(seed).padded(2)
    example.scores = example.scores.detach() * scale
    queries = example.queries(operator)
    posterior = build(alignment).posterior(queries)
    for number, (weights, log_likelihoods) in enumerate(
        zip(queries.weights.tolist(), example.log_likelihoods().tolist(), strict=True)
    ):
        joint = [p * math.exp(log_likelihood) for p, log_likelihood in zip(weights, log_likelihoods, strict=True)]
        assert posterior[number].tolist() == pytest.approx([each / math.fsum(joint) for each in joint], rel=1e-6)
        assert [p == 0 for p in weights] == [p == 0 for p in posterior[number].tolist()]


@given(operator=st.sampled_from(OPERATORS), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_what_the_elbo_lacks_is_the_divergence_of_q_from_the_posterior(operator, seed):
    example = problem(seed)
    queries = example.queries(operator)
    alignment = build("variational")
    q = alignment.approximate_posterior(queries, example.posterior_scores)
    divergence = torch.where(q > 0, q * (q / alignment.posterior(queries)).log(), 0.0).sum(-1)
    lacking = alignment.log_marginal(queries) - alignment.objective(queries, example.posterior_scores)
    torch.testing.assert_close(divergence, lacking)


def test_there_is_a_posterior_of_a_latent_variable_and_a_q_of_an_inference_network():
    example = problem()
    for alignment, number in (("soft", 1), ("exact", 2), ("hard", 2), ("variational", 3), ("dirichlet", 3)):
        alignment = build(alignment)
        told = {
            "posterior": alignment.posterior(example.queries()),
            "approximate_posterior": alignment.approximate_posterior(example.queries(), example.posterior_scores),
        }
        names = ("prior", *(name for name, one in told.items() if one is not None))
        assert names == alignment.distributions and len(names) == number


@pytest.mark.parametrize("operator", OPERATORS, ids=str)
@pytest.mark.parametrize("top_k", [None, 2])
def test_the_marginals_of_all_outcomes_are_a_distribution_with_the_targets_marginal_in_it(operator, top_k):
    example = problem()
    alignment = build({"type": "exact", "marginal_top_k": top_k})
    distribution = alignment.log_marginal(example.queries(operator, outcomes=True)).exp()
    torch.testing.assert_close(distribution.sum(-1), torch.ones(len(distribution), dtype=torch.float64))
    of_targets = distribution.gather(1, example.targets.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(alignment.log_marginal(example.queries(operator)).exp(), of_targets)


@pytest.mark.parametrize("top_k", [5, 100])
def test_the_top_k_of_at_least_all_positions_is_exact(top_k):
    queries = problem().queries()
    top = build({"type": "exact", "marginal_top_k": top_k}).log_marginal(queries)
    torch.testing.assert_close(top, build("exact").log_marginal(queries))


def test_the_top_k_are_the_most_probable_renormalized():
    example = problem()
    queries = example.queries()
    top = build({"type": "variational", "marginal_top_k": 2}).log_marginal(queries)
    for number, weights in enumerate(queries.weights):
        best = sorted(range(len(weights)), key=lambda z: -weights[z].item())[:2]
        likelihoods = example.log_likelihoods()[number].exp()
        expected = sum(weights[z] * likelihoods[z] for z in best) / sum(weights[z] for z in best)
        torch.testing.assert_close(top[number].exp(), expected)


def test_training_and_evaluation_differ_by_the_top_k_alone():
    queries = problem().queries()
    alignment = build({"type": "exact", "marginal_top_k": 1})
    torch.testing.assert_close(alignment.objective(queries), build("exact").log_marginal(queries))
    assert (alignment.log_marginal(queries) != alignment.objective(queries)).all()


def test_only_the_support_of_a_sparse_prior_is_looked_at():
    example = problem()
    queries = example.queries(Sparsemax())
    support = int((queries.weights > 0).sum())
    assert support < int(example.mask.sum())
    build("exact").log_marginal(queries)
    assert example.contexts_seen == support


@pytest.mark.parametrize("outcomes", [False, True])
@pytest.mark.parametrize("alignment", ["exact", {"type": "exact", "marginal_top_k": 2}, "dirichlet"], ids=str)
def test_a_query_does_not_feel_padding_nor_other_queries(alignment, outcomes):
    example = problem()
    alignment = build(alignment)
    together = alignment.log_marginal(example.queries(outcomes=outcomes))
    torch.testing.assert_close(alignment.log_marginal(example.padded(4).queries(outcomes=outcomes)), together)
    for number in range(len(together)):
        alone = problem()
        alone.scores, alone.mask, alone.items = (
            t[number : number + 1] for t in (alone.scores, alone.mask, alone.items)
        )
        alone.hidden, alone.targets = alone.hidden[number : number + 1], alone.targets[number : number + 1]
        torch.testing.assert_close(alignment.log_marginal(alone.queries(outcomes=outcomes))[0], together[number])


@pytest.mark.parametrize("outcomes", [False, True])
@pytest.mark.parametrize("alignment", ["exact", {"type": "exact", "marginal_top_k": 2}, "dirichlet"], ids=str)
def test_at_test_time_queries_are_computed_in_chunks(alignment, outcomes, monkeypatch):
    example = problem(queries_per_item=6)
    alignment = build(alignment)
    expected = alignment.log_marginal(example.queries(outcomes=outcomes))
    largest = 0

    def log_likelihood(contexts, numbers):
        nonlocal largest
        largest = max(largest, len(contexts))
        return (example.log_distribution if outcomes else example.log_likelihood)(contexts, numbers)

    monkeypatch.setattr(query_chunks, "FIRST_CHUNK_CONTEXTS", 1)
    monkeypatch.setattr(query_chunks, "MAX_CHUNK_SIZE", 200 if outcomes else 50)
    queries = example.queries()
    queries.log_likelihood = log_likelihood
    with torch.no_grad():
        torch.testing.assert_close(alignment.log_marginal(queries), expected)
    assert largest <= 50


@pytest.mark.parametrize("alignment", ["exact", "dirichlet"])
def test_the_posterior_is_computed_in_chunks_too(alignment, monkeypatch):
    queries = problem(queries_per_item=6).queries()
    alignment = build(alignment)
    expected = alignment.posterior(queries)
    seen = []
    log_likelihood = queries.log_likelihood
    queries.log_likelihood = lambda contexts, numbers: seen.append(len(contexts)) or log_likelihood(contexts, numbers)
    monkeypatch.setattr(query_chunks, "FIRST_CHUNK_CONTEXTS", 1)
    monkeypatch.setattr(query_chunks, "MAX_CHUNK_SIZE", 200)
    with torch.no_grad():
        torch.testing.assert_close(alignment.posterior(queries), expected)
    assert len(seen) > 2 and max(seen) <= 50


@given(scale=st.floats(0.1, 1e4), seed=st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_the_gradient_is_finite_however_small_a_weight_is(scale, seed):
    example = problem(seed)
    example.scores = (example.scores.detach() * scale).requires_grad_()
    for dtype in (torch.float32, torch.float64):
        queries = example.queries()
        queries.weights = queries.weights.to(dtype)
        objective = build({"type": "variational"}).objective(queries, example.posterior_scores)
        for value in (objective, build("exact").objective(queries)):
            gradient = torch.autograd.grad(value.sum(), example.scores, retain_graph=True)[0]
            assert gradient.isfinite().all() and value.isfinite().all()


@pytest.mark.parametrize("alignment", [*CATEGORICAL, {"type": "variational", "estimator": "reinforce"}], ids=str)
def test_a_weight_that_is_nan_spoils_its_own_query_alone(alignment):
    example = problem()
    queries = example.queries()
    queries.weights = queries.weights.detach().clone()
    queries.weights[2, 0] = torch.nan
    alignment = build(alignment)
    for result in (alignment.log_marginal(queries), alignment.objective(queries, example.posterior_scores)):
        assert result.isnan().tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize(
    "alignment, attention, message",
    [
        ({"type": "exact", "marginal_top_k": 0}, "softmax", '"marginal_top_k" must be at least 1, but is 0'),
        ({"type": "hard", "num_samples": 0}, "softmax", '"num_samples" must be at least 1, but is 0'),
        ({"type": "exact", "num_samples": 2}, "softmax", "Extra parameters.*num_samples"),
        ("soft", {"type": "dot_product", "normalize": False}, '"normalize": false'),
        ("exact", {"type": "dot_product", "normalize": False}, '"normalize": false'),
        ("hard", {"type": "sparsemax", "normalize": False}, '"normalize": false'),
        ("exakt", "softmax", "exakt"),
    ],
    ids=str,
)
def test_a_wrong_config_is_named(alignment, attention, message):
    with pytest.raises(ConfigurationError, match=message):
        build(alignment, attention)
