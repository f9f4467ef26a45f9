import copy

import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from hypothesis import given, settings
from hypothesis import strategies as st

from regattn_allennlp.modules.inference_networks import BilinearInferenceNetwork
from regattn_allennlp.modules.latent_alignment.gradient_estimators import (
    EnumerationEstimator,
    GumbelSoftmaxEstimator,
    ReinforceEstimator,
    WakeSleepEstimator,
)
from regattn_allennlp.modules.latent_alignment.soft_alignment import SoftAlignment
from regattn_allennlp.operators import Fusedmax, Softmax, Sparsemax
from tests.modules.latent_alignment.common import AnyModel, build, problem

OPERATORS = [Softmax(), Sparsemax(), Fusedmax(lam=0.3)]
ESTIMATORS = {
    "enumeration": EnumerationEstimator,
    "reinforce": ReinforceEstimator,
    "gumbel_softmax": GumbelSoftmaxEstimator,
    "wake_sleep": WakeSleepEstimator,
}


@pytest.mark.parametrize("operator", OPERATORS, ids=str)
def test_the_elbo_is_that_of_torchs_categorical_distributions(operator):
    example = problem()
    queries = example.queries(operator)
    elbo = build("variational").objective(queries, example.posterior_scores)
    for number, weights in enumerate(queries.weights):
        support = weights > 0
        prior = torch.distributions.Categorical(weights[support])
        posterior = torch.distributions.Categorical(logits=example.posterior_scores[number][support])
        expected_log_likelihood = (posterior.probs * example.log_likelihoods()[number][support]).sum()
        divergence = torch.distributions.kl_divergence(posterior, prior)
        torch.testing.assert_close(elbo[number], expected_log_likelihood - divergence)


@given(seed=st.integers(0, 1000), scale=st.floats(0.0, 20.0), operator=st.sampled_from(OPERATORS))
@settings(max_examples=40, deadline=None)
def test_the_elbo_is_at_most_the_log_marginal_and_equal_at_the_true_posterior(seed, scale, operator):
    example = problem(seed)
    queries = example.queries(operator)
    alignment = build("variational")
    log_marginal = alignment.log_marginal(queries)
    elbo = alignment.objective(queries, scale * example.posterior_scores)
    assert (elbo <= log_marginal + 1e-12).all()
    # Where the prior has no weight there is a score all the same: it is to be left out.
    log_joint = queries.weights.clamp(min=1e-300).log() + example.log_likelihoods()
    torch.testing.assert_close(alignment.objective(queries, log_joint), log_marginal)


def test_where_the_prior_has_no_weight_the_posterior_has_none():
    example = problem()
    queries = example.queries(Sparsemax())
    alignment = build("variational")
    outside = queries.weights == 0
    elbo = alignment.objective(queries, example.posterior_scores)
    other = alignment.objective(queries, example.posterior_scores.masked_fill(outside, 50.0))
    torch.testing.assert_close(elbo, other)
    gradient = torch.autograd.grad(elbo.sum(), example.posterior_scores)[0]
    assert (gradient[outside] == 0).all() and (gradient[~outside] != 0).any()


@pytest.mark.parametrize("operator", OPERATORS, ids=str)
def test_with_the_prior_in_the_posterior_the_network_says_the_likelihood(operator):
    example = problem()
    queries = example.queries(operator)
    alignment = build({"type": "variational", "prior_in_posterior": True})
    elbo = alignment.objective(queries, example.log_likelihoods())
    torch.testing.assert_close(elbo, alignment.log_marginal(queries))
    nothing_said = alignment.objective(queries, torch.zeros_like(example.posterior_scores))
    torch.testing.assert_close(nothing_said, (queries.weights * example.log_likelihoods()).sum(-1))


def test_a_prior_in_the_posterior_has_the_gradient_of_the_prior_alone():
    example = problem()
    queries = example.queries()
    with_prior = build({"type": "variational", "prior_in_posterior": True})
    said = (queries.weights.log() + example.posterior_scores).detach().masked_fill(~example.mask, 0.0)
    gradients = [
        torch.autograd.grad(objective.sum(), example.scores, retain_graph=True)[0]
        for objective in (
            with_prior.objective(queries, example.posterior_scores),
            build("variational").objective(queries, said),
        )
    ]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_an_estimator_is_built_of_its_name_alone(estimator):
    alignment = build({"type": "variational", "estimator": estimator})
    assert type(alignment._estimator) is ESTIMATORS[estimator]
    assert isinstance(alignment.inference_network, BilinearInferenceNetwork)
    assert set(alignment.state_dict()) == {f"inference_network.{n}" for n in alignment.inference_network.state_dict()}


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("operator", OPERATORS, ids=str)
def test_every_estimator_repeats_under_a_seed_and_takes_nothing_from_padding(estimator, operator):
    alignment = build({"type": "variational", "estimator": estimator})
    example = problem(queries_per_item=20, lengths=(5, 2)).padded(3)
    queries = example.queries(operator)
    objectives = []
    for seed in (2, 2, 3):
        torch.manual_seed(seed)
        objectives.append(alignment.objective(queries, example.posterior_scores))
    assert torch.equal(objectives[0], objectives[1])
    assert torch.equal(objectives[0], objectives[2]) == (estimator == "enumeration")
    gradient = torch.autograd.grad(objectives[0].sum(), example.values)[0]
    assert (gradient[:, 5:] == 0).all() and (gradient[1, 2:] == 0).all() and (gradient[0, :5] != 0).any()


def test_padding_changes_nothing():
    example = problem()
    alignment = build("variational")
    longer = example.padded(3)
    torch.testing.assert_close(
        alignment.objective(longer.queries(), longer.posterior_scores),
        alignment.objective(example.queries(), example.posterior_scores),
    )


def test_without_an_estimator_it_enumerates():
    assert type(build("variational")._estimator) is EnumerationEstimator


def test_the_inference_network_has_the_models_sizes_and_the_configs_choices():
    network = build(
        {"type": "variational", "inference_network": {"type": "bilinear", "hidden_dim": 9, "encode_targets": False}}
    ).inference_network
    assert network._memory_projection.weight.shape == (9, 5)
    assert network._query_projection.weight.shape == (9, 6 + 7)
    assert network._target_encoder is None


def test_any_of_allennlps_attentions_makes_a_prior():
    for attention in ({"type": "additive", "vector_dim": 6, "matrix_dim": 5}, {"type": "dot_product"}):
        assert build("variational", attention).inference_network is not None


def test_without_a_block_it_is_soft():
    assert type(AnyModel.from_params(Params({"attention": "softmax"})).latent_alignment) is SoftAlignment


@pytest.mark.parametrize(
    "config, message",
    [
        ({"estimator": {"type": "enumeration", "temperature": 0.5}}, "Extra parameters.*Enumeration.*temperature"),
        ({"estimator": "gumbel_softmax", "temperature": 0.5}, "Extra parameters.*VariationalAlignment.*temperature"),
        ({"estimator": {"type": "gumbel_softmax", "temperature": 0.0}}, '"temperature" must be above 0, but is 0.0'),
        ({"estimator": {"type": "reinforce", "num_samples": 0}}, '"num_samples" must be at least 1, but is 0'),
        ({"estimator": {"type": "wake_sleep", "num_samples": 1}}, '"num_samples" must be at least 2.*but is 1'),
        ({"estimator": "enumerate"}, "enumerate.*enumeration"),
        ({"inference_network": {"hidden": 3}}, "Extra parameters.*hidden"),
        ({"inference_network": {"hidden_dim": 0}}, '"hidden_dim".*at least 1, but is 0'),
    ],
    ids=str,
)
def test_a_wrong_config_is_named(config, message):
    with pytest.raises(ConfigurationError, match=f"(?s){message}"):
        build({"type": "variational", **config})


@pytest.mark.parametrize("operator", OPERATORS, ids=str)
def test_the_approximate_posterior_is_the_inference_networks_on_the_support(operator):
    example = problem()
    queries = example.queries(operator)
    told = build("variational").approximate_posterior(queries, example.posterior_scores)
    for number, weights in enumerate(queries.weights):
        support = weights > 0
        assert (told[number][~support] == 0).all()
        expected = torch.distributions.Categorical(logits=example.posterior_scores[number][support]).probs
        torch.testing.assert_close(told[number][support], expected)


@pytest.mark.parametrize(
    "attention, with_prior",
    [("softmax", False), ("dot_product", False), ("sparsemax", True), ({"type": "fusedmax", "lam": 0.3}, True)],
    ids=str,
)
def test_by_default_q_has_the_prior_in_it_where_that_is_sparse(attention, with_prior):
    example = problem()
    queries = example.queries(Sparsemax() if with_prior else None)
    default, told = (
        build({"type": "variational", **block}, copy.deepcopy(attention)).objective(queries, example.posterior_scores)
        for block in ({}, {"prior_in_posterior": with_prior})
    )
    assert torch.equal(default, told)
    other = build({"type": "variational", "prior_in_posterior": not with_prior}, copy.deepcopy(attention))
    assert not torch.allclose(default, other.objective(queries, example.posterior_scores))


@pytest.mark.parametrize("estimator", ["enumeration", "reinforce", "gumbel_softmax"])
def test_the_kl_is_weighted(estimator):
    example = problem()
    queries = example.queries()
    values = {}
    for kl_weight in (0.0, 0.25, 1.0):
        torch.manual_seed(3)
        module = build({"type": "variational", "estimator": {"type": estimator, "kl_weight": kl_weight}})
        values[kl_weight] = module.objective(queries, example.posterior_scores)
    posterior, prior = (
        torch.distributions.Categorical(logits=scores.masked_fill(~example.mask, -1e9))
        for scores in (example.posterior_scores, example.scores)
    )
    divergence = torch.distributions.kl_divergence(posterior, prior)
    torch.testing.assert_close(values[0.0] - values[1.0], divergence)
    torch.testing.assert_close(values[0.0] - values[0.25], divergence / 4)


def test_the_kl_warms_up_over_batches_of_training():
    example = problem()
    queries = example.queries()
    schedule = {"initial": 0.0, "final": 1.0, "num_batches": 4}
    module = build({"type": "variational", "estimator": {"type": "enumeration", "kl_weight": schedule}})
    without, whole = (
        build({"type": "variational", "estimator": {"type": "enumeration", "kl_weight": weight}}).objective(
            queries, example.posterior_scores
        )
        for weight in (0.0, 1.0)
    )
    for batch in range(6):
        weight = min(batch / 4, 1.0)
        objective = module.objective(queries, example.posterior_scores)
        torch.testing.assert_close(objective, (1 - weight) * without + weight * whole)


@pytest.mark.parametrize(
    "block, message",
    [
        ({"type": "reinforce", "kl_weight": -1.0}, '"kl_weight" must be at least 0, but is -1.0'),
        ({"kl_weight": {"initial": 1.0, "final": -0.5, "num_batches": 3}}, '"kl_weight".*is -0.5'),
        ({"type": "wake_sleep", "kl_weight": 0.5}, "Extra parameters.*kl_weight"),
    ],
    ids=str,
)
def test_a_weight_that_makes_no_sense_is_named(block, message):
    with pytest.raises(ConfigurationError, match=message):
        build({"type": "variational", "estimator": block})


@pytest.mark.parametrize("operator", OPERATORS, ids=str)
def test_with_the_prior_in_it_the_approximate_posterior_is_exact_where_the_network_says_the_likelihood(operator):
    example = problem()
    queries = example.queries(operator)
    alignment = build({"type": "variational", "prior_in_posterior": True})
    told = alignment.approximate_posterior(queries, example.log_likelihoods())
    torch.testing.assert_close(told, alignment.posterior(queries))
    assert not torch.allclose(build("variational").approximate_posterior(queries, example.log_likelihoods()), told)
