import pytest
import scipy.integrate
import scipy.stats
import torch
from allennlp.common.checks import ConfigurationError

from regattn_allennlp.operators import Softmax
from tests.modules.latent_alignment.common import NUM_OUTCOMES, assert_means, build, estimates, problem, replicas

# Whose q is Dir(exp(posterior_scores)).
OF_THE_NETWORK = {"type": "dirichlet", "prior_in_posterior": False}


def likelihood_of_mixture(example, first):
    """p(y | first x_1 + (1 - first) x_2) of the first query."""
    context = first * example.values[0, 0] + (1 - first) * example.values[0, 1]
    with torch.no_grad():
        return example.log_distribution(context.unsqueeze(0), torch.tensor([0]))[0, example.targets[0]].exp().item()


def integral(example, concentration, function):
    """E[function(p(y | mixture))] over a Dirichlet of two positions, by quadrature."""
    first, second = concentration.tolist()
    density = scipy.stats.beta(first, second).pdf
    return scipy.integrate.quad(lambda w: function(likelihood_of_mixture(example, w)) * density(w), 0, 1)[0]


def two_positions(number=1):
    example = replicas(number, seed=3, num_positions=2)
    # Concentrations above 1: the density has no pole for the quadrature to miss.
    example.scores = (example.scores.detach().abs() + 0.2).requires_grad_()
    example.posterior_scores = (example.posterior_scores.detach().abs() + 0.3).requires_grad_()
    return example


def test_the_marginal_is_the_integral_over_the_prior():
    example = two_positions()
    marginal = build({"type": "dirichlet", "num_marginal_samples": 50_000}).log_marginal(example.queries()).exp()
    expected = integral(example, example.scores[0].exp(), lambda p: p)
    assert abs(marginal.item() - expected) < 1e-3 * expected


def test_the_objective_is_in_the_mean_that_of_quadrature():
    number = 20_000
    torch.manual_seed(1)
    example = two_positions(number)
    objective = build(OF_THE_NETWORK).objective(example.queries(), example.posterior_scores).detach()
    posterior, prior = example.posterior_scores[0].detach().exp(), example.scores[0].detach().exp()
    divergence = torch.distributions.kl_divergence(*map(torch.distributions.Dirichlet, (posterior, prior)))
    expected = integral(example, posterior, lambda p: torch.tensor(p).log().item()) - divergence.item()
    assert_means({"value": objective}, {"value": torch.tensor(expected)})


def test_the_objective_is_at_most_the_log_marginal():
    for seed in range(5):
        example = problem(seed)
        queries = example.queries()
        objective = build({"type": "dirichlet", "num_samples": 2000}).objective(queries, example.posterior_scores)
        marginal = build({"type": "dirichlet", "num_marginal_samples": 2000}).log_marginal(queries)
        assert (objective < marginal + 0.02).all()


@pytest.mark.parametrize("outcomes", [False, True])
def test_evaluation_repeats_itself_and_leaves_the_random_state(outcomes):
    queries = problem().queries(outcomes=outcomes)
    alignment = build("dirichlet")
    state = torch.random.get_rng_state()
    first = alignment.log_marginal(queries)
    assert torch.equal(alignment.log_marginal(queries), first)
    assert torch.equal(torch.random.get_rng_state(), state)
    if outcomes:
        torch.testing.assert_close(first.exp().sum(-1), torch.ones(len(first), dtype=torch.float64))


def test_the_priors_mean_is_the_softmax_also_of_large_scores():
    example = problem()
    example.scores = (example.scores.detach() * 15 + 60).requires_grad_()
    queries = example.queries(Softmax(gamma=2.0))
    prior = build("dirichlet", {"type": "softmax", "gamma": 2.0})._log_prior_concentration(queries)
    concentration = prior.exp() * example.mask
    torch.testing.assert_close(concentration / concentration.sum(-1, keepdim=True), queries.weights)
    assert concentration.amax() <= 1_097  # exp(7)


@pytest.mark.parametrize("scale, shift", [(1.0, 0.0), (100.0, 0.0), (1.0, 300.0), (1.0, -300.0)])
def test_scores_of_any_size_have_finite_results(scale, shift):
    example = problem()
    queries = example.queries()
    queries.scores = scale * example.scores + shift
    objective = build("dirichlet").objective(queries, scale * example.posterior_scores + shift)
    gradients = torch.autograd.grad(objective.sum(), (example.scores, example.posterior_scores, example.values))
    assert objective.isfinite().all() and all(gradient.isfinite().all() for gradient in gradients)
    assert build("dirichlet").log_marginal(queries).isfinite().all()


def test_gradients_at_fixed_noise_are_those_of_finite_differences_for_prior_and_values():
    example = problem(queries_per_item=1)
    module = build(OF_THE_NETWORK)

    def objective(scores, values):
        torch.manual_seed(5)
        example.scores, example.values = scores, values
        return module.objective(example.queries(), example.posterior_scores.detach())

    assert torch.autograd.gradcheck(objective, (example.scores, example.values))


def test_a_learned_gamma_is_learned_through_the_prior_and_is_no_parameter_twice():
    example = problem()
    alignment = build("dirichlet", {"type": "softmax", "learn_gamma": True})
    assert not any("gamma" in name for name, _ in alignment.named_parameters())
    softmax = alignment._attention[0].regularized_max
    (gradient,) = torch.autograd.grad(
        alignment.objective(example.queries(softmax), example.posterior_scores).sum(), list(softmax.parameters())
    )
    assert gradient.abs() > 1e-3


def test_single_precision_in_gives_single_precision_out():
    example = problem()
    for name, leaf in example.leaves().items():
        setattr(example, name, leaf.detach().float().requires_grad_())
    alignment = build("dirichlet")
    assert alignment.objective(example.queries(), example.posterior_scores).dtype == torch.float32
    assert alignment.log_marginal(example.queries()).dtype == torch.float32


def test_more_samples_make_the_objective_less_noisy():
    deviations = [
        estimates(
            lambda many, n=n: build({"type": "dirichlet", "num_samples": n}).objective(
                many.queries(), many.posterior_scores
            ),
            1000,
        )["value"].std()
        for n in (1, 16)
    ]
    assert 3 < deviations[0] / deviations[1] < 5.3


@pytest.mark.parametrize(
    "attention, config, message",
    [
        ("sparsemax", {}, '"dirichlet" needs the attention "softmax".*Sparsemax'),
        ({"type": "fusedmax", "lam": 0.1}, {}, '"dirichlet" needs the attention "softmax".*Fusedmax'),
        ({"type": "entmax", "alpha": 1.5}, {}, '"dirichlet" needs the attention "softmax".*Entmax'),
        ("dot_product", {}, "DotProductAttention does not give"),
        ({"type": "softmax", "normalize": False}, {}, '"normalize": false'),
        ("softmax", {"num_samples": 0}, '"num_samples" must be at least 1, but is 0'),
        ("softmax", {"num_marginal_samples": 0}, '"num_marginal_samples" must be at least 1, but is 0'),
        ("softmax", {"marginal_top_k": 3}, "Extra parameters.*marginal_top_k"),
        ("softmax", {"warm_up_batches": -1}, '"warm_up_batches" must be at least 0, but is -1'),
        ("softmax", {"kl_weight": -1.0}, '"kl_weight" must be at least 0, but is -1.0'),
    ],
    ids=str,
)
def test_a_wrong_config_is_named(attention, config, message):
    with pytest.raises(ConfigurationError, match=message):
        build({"type": "dirichlet", **config}, attention)


def test_the_posteriors_mean_is_that_of_quadrature():
    from_the_prior = []
    for target in range(NUM_OUTCOMES):
        example = two_positions()
        example.values, example.targets = 4 * example.values.detach(), torch.tensor([target])
        told = build({"type": "dirichlet", "num_marginal_samples": 50_000}).posterior(example.queries())[0]
        concentration = example.scores[0].exp()
        first, second = concentration.tolist()
        density = scipy.stats.beta(first, second).pdf
        joint = scipy.integrate.quad(lambda w: w * likelihood_of_mixture(example, w) * density(w), 0, 1)[0]  # noqa: B023
        expected = joint / integral(example, concentration, lambda p: p)
        assert told.sum().item() == pytest.approx(1)
        assert told[0].item() == pytest.approx(expected, abs=2e-3)
        from_the_prior.append(abs(expected - first / (first + second)))
    assert max(from_the_prior) > 0.03


def test_the_posteriors_mean_is_of_the_samples_that_the_marginal_takes():
    example = problem()
    queries = example.queries()
    alignment = build({"type": "dirichlet", "num_marginal_samples": 1})
    # Of one sample the mean is that sample, whatever its likelihood.
    sample = alignment.posterior(queries)
    torch.testing.assert_close(queries.log_likelihood_of_mixture(sample), alignment.log_marginal(queries))
    assert (sample[~example.mask] == 0).all()
    torch.testing.assert_close(alignment.posterior(example.padded(3).queries())[:, :-3], sample)


def test_the_approximate_posterior_is_the_mean_of_torchs_dirichlet_distribution():
    example = problem()
    told = build(OF_THE_NETWORK).approximate_posterior(example.queries(), example.posterior_scores)
    for number, mask in enumerate(example.mask):
        scores = example.posterior_scores[number][mask]
        torch.testing.assert_close(told[number][mask], torch.distributions.Dirichlet(scores.exp()).mean)
        assert (told[number][~mask] == 0).all()


@pytest.mark.parametrize("distance", [20.0, 60.0])
def test_where_prior_and_posterior_disagree_the_gradient_leads_back(distance):
    example = problem(lengths=(3, 3))
    scores, opposite = (
        torch.zeros_like(example.scores).index_fill(1, torch.tensor([position]), distance).requires_grad_()
        for position in (0, 1)
    )
    queries = example.queries()
    queries.scores = scores
    objective = build(OF_THE_NETWORK).objective(queries, opposite)
    assert (objective > -3e5).all()
    towards, of_prior = torch.autograd.grad(objective.sum(), (opposite, scores))
    # The posterior is to give up its position for the prior's, and the prior its own for the posterior's.
    assert (towards[:, 0] > 0.01).all() and (of_prior[:, 1] > 0).all() and (of_prior[:, 0] < -0.01).all()


def test_above_its_bound_the_posteriors_concentration_is_the_networks():
    example = problem()
    scores = example.posterior_scores.detach().clamp(min=-2.5)
    concentration = build(OF_THE_NETWORK)._log_posterior_concentration(example.queries(), scores)
    torch.testing.assert_close(concentration[example.mask], scores[example.mask])


def test_the_gradient_is_that_of_finite_differences_beyond_the_bounds():
    example = problem(queries_per_item=1)
    module = build(OF_THE_NETWORK)

    def concentrations(scores):
        return module._log_posterior_concentration(example.queries(), 8 * scores)

    assert torch.autograd.gradcheck(concentrations, example.posterior_scores)


def test_warming_up_learns_from_samples_of_the_prior_alone():
    example = problem()
    module = build({"type": "dirichlet", "warm_up_batches": 2})
    plain = build(OF_THE_NETWORK)
    for batch in range(3):
        torch.manual_seed(4)
        objective = module.objective(example.queries(), example.posterior_scores)
        of_prior, of_posterior = torch.autograd.grad(objective.sum(), (example.scores, example.posterior_scores))
        # Where q is the prior, the ELBO is E_p[log p(y | mixture)].
        torch.manual_seed(4)
        expected = plain.objective(example.queries(), example.scores.detach())
        if batch < 2:
            torch.testing.assert_close(objective, expected)
            assert (of_posterior == 0).all() and of_prior.abs().amax() > 1e-3
        else:
            assert not torch.allclose(objective, expected)
            assert of_posterior.abs().amax() > 1e-3


def test_with_the_prior_in_it_q_begins_at_the_prior():
    example = problem()
    queries = example.queries()
    scores = torch.zeros_like(example.posterior_scores)
    module, of_the_network = build("dirichlet"), build(OF_THE_NETWORK)
    torch.testing.assert_close(module.approximate_posterior(queries, scores), queries.weights)
    torch.manual_seed(6)
    with_prior = module.objective(queries, example.posterior_scores)
    torch.manual_seed(6)
    told = of_the_network.objective(queries, example.posterior_scores + example.scores.detach())
    torch.testing.assert_close(with_prior, told)
    gradients = [
        torch.autograd.grad(objective.sum(), (example.scores, example.posterior_scores))
        for objective in (with_prior, told)
    ]
    # Through q the prior gets none.
    torch.testing.assert_close(*gradients)


def test_the_kl_is_weighted():
    example = problem()
    values = []
    for kl_weight in (0.0, 0.5, 1.0):
        torch.manual_seed(3)
        module = build({"type": "dirichlet", "kl_weight": kl_weight})
        values.append(module.objective(example.queries(), example.posterior_scores))
    torch.testing.assert_close(values[0] - values[1], values[1] - values[2])
    assert (values[0] > values[2] + 1e-6).all()
