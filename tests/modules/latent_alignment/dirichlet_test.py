import pytest
import scipy.integrate
import scipy.stats
import torch

from regattn_allennlp.modules.latent_alignment.dirichlet import (
    dirichlet_divergence,
    sample_dirichlet,
    sample_dirichlet_at_fixed_noise,
)

LOG_CONCENTRATION = torch.tensor([[-3.0, 0.2, 1.5, -0.4], [4.0, 3.0, 3.5, 0.0]], dtype=torch.float64)
MASK = torch.tensor([[True, True, True, True], [True, True, True, False]])


@pytest.mark.parametrize("sample", [sample_dirichlet, sample_dirichlet_at_fixed_noise])
def test_every_weight_has_its_beta_distribution(sample):
    torch.manual_seed(1)
    samples = sample(LOG_CONCENTRATION, MASK, 20_000)
    torch.testing.assert_close(samples.sum(-1), torch.ones(2, 20_000, dtype=torch.float64))
    for row, (log_concentration, mask) in enumerate(zip(LOG_CONCENTRATION, MASK, strict=True)):
        concentration = log_concentration[mask].exp()
        for position, one in enumerate(concentration):
            beta = scipy.stats.beta(one.item(), (concentration.sum() - one).item())
            assert scipy.stats.kstest(samples[row, :, position].numpy(), beta.cdf).pvalue > 1e-3
    assert (samples[1, :, 3] == 0).all()


@pytest.mark.parametrize("sample", [sample_dirichlet, sample_dirichlet_at_fixed_noise])
def test_small_and_large_concentrations_do_no_harm(sample):
    log_concentration = torch.tensor([[-45.0, -10.0, -45.0], [-40.0, 10.0, 10.0], [10.0, -30.0, -30.0]]).double()
    log_concentration.requires_grad_()
    samples = sample(log_concentration, torch.ones(3, 3, dtype=torch.bool), 1000)
    assert samples.isfinite().all() and (samples >= 0).all()
    torch.testing.assert_close(samples[2, :, 0], torch.ones(1000, dtype=torch.float64))
    if samples.requires_grad:
        samples.square().sum().backward()
        assert log_concentration.grad.isfinite().all()


def test_fixed_noise_is_the_same_in_every_company_and_leaves_the_random_state():
    state = torch.random.get_rng_state()
    together = sample_dirichlet_at_fixed_noise(LOG_CONCENTRATION, MASK, 7)
    assert torch.equal(torch.random.get_rng_state(), state)
    alone = sample_dirichlet_at_fixed_noise(LOG_CONCENTRATION[1:, :3], MASK[1:, :3], 7)
    torch.testing.assert_close(together[1:, :, :3], alone)


def test_the_gradient_of_an_expectation_is_unbiased():
    concentration = torch.tensor([0.4, 1.3], dtype=torch.float64)

    def expectation(first: float, second: float) -> float:
        density = scipy.stats.beta(first, second).pdf
        # With u^(1 / first) for the weight the density has no pole at 0.
        value, _ = scipy.integrate.quad(
            lambda u: (1 + u ** (1 / first)) ** -2 * density(u ** (1 / first)) * u ** (1 / first - 1) / first, 0, 1
        )
        return value

    step = 1e-4
    first, second = concentration.tolist()
    expected = torch.tensor(
        [
            (expectation(first + step, second) - expectation(first - step, second)) / (2 * step),
            (expectation(first, second + step) - expectation(first, second - step)) / (2 * step),
        ]
    )
    torch.manual_seed(2)
    rows = concentration.log().expand(50_000, -1).clone().requires_grad_()
    samples = sample_dirichlet(rows, torch.ones(50_000, 2, dtype=torch.bool), 1)
    ((1 + samples[:, 0, 0]) ** -2).sum().backward()
    estimates = rows.grad / concentration
    errors = estimates.std(0) / len(estimates) ** 0.5
    assert ((estimates.mean(0) - expected).abs() < 4.5 * errors).all()
    assert (errors < 0.05 * expected.abs()).all()


def test_the_divergence_is_that_of_torchs_distributions_without_padding():
    other = LOG_CONCENTRATION.flip(0) * 0.7
    divergence = dirichlet_divergence(LOG_CONCENTRATION, other, MASK)
    for row, mask in enumerate(MASK):
        p, q = (torch.distributions.Dirichlet(log[row][mask].exp()) for log in (LOG_CONCENTRATION, other))
        torch.testing.assert_close(divergence[row], torch.distributions.kl_divergence(p, q))


def test_the_divergence_is_the_mean_log_ratio_of_samples():
    torch.manual_seed(3)
    first, second = (torch.distributions.Dirichlet(log.exp()) for log in LOG_CONCENTRATION)
    samples = first.sample((50_000,)).clamp(min=1e-300)
    ratios = first.log_prob(samples / samples.sum(-1, keepdim=True)) - second.log_prob(samples)
    divergence = dirichlet_divergence(LOG_CONCENTRATION[:1], LOG_CONCENTRATION[1:], MASK[:1])
    assert abs(ratios.mean() - divergence) < 4.5 * ratios.std() / len(ratios) ** 0.5
