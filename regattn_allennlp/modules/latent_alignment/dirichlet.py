"""Dirichlet distributions over some of the positions of a row: those where a mask is true."""

import functools

import numpy
import torch

# Marsaglia and Tsang's proposals are refused with a probability below 0.05: all of these with one below 1e-7.
NUM_PROPOSALS = 6


def sample_dirichlet(log_concentration: torch.Tensor, mask: torch.Tensor, num_samples: int) -> torch.Tensor:
    """
    Reparameterized samples: they have gradients with respect to the concentration.

    # Parameters

    log_concentration : `torch.Tensor`
        Shape (num_rows, num_positions), float64.
    mask : `torch.BoolTensor`
        Shape (num_rows, num_positions): the other positions get exactly 0.

    # Returns

    Shape (num_rows, num_samples, num_positions).
    """
    shape = (len(log_concentration), num_samples, log_concentration.size(-1))
    concentration = log_concentration.exp().unsqueeze(1).expand(shape)
    gamma = torch.distributions.Gamma(concentration + 1, torch.ones_like(concentration), validate_args=False)
    exponential = torch.empty(shape, dtype=concentration.dtype, device=concentration.device).exponential_()
    return _normalize(gamma.rsample().log(), exponential, concentration, mask)


def sample_dirichlet_at_fixed_noise(
    log_concentration: torch.Tensor, mask: torch.Tensor, num_samples: int
) -> torch.Tensor:
    """
    As `sample_dirichlet`, but always from the same random numbers, those of a position being its own: a row has the
    same samples whatever is beside it, however far it is padded, and on every device. They have no gradients, and the
    global random state is neither used nor changed.

    Each row's samples are exact and independent, by Marsaglia and Tsang's method (2000, A simple method for generating
    gamma variables); samples of different rows are not independent of each other.
    """
    concentration = log_concentration.detach().exp().unsqueeze(1)
    noise = numpy.stack([_fixed_noise(position, num_samples) for position in range(log_concentration.size(-1))], -1)
    # Shape: (num_proposals, num_samples, num_positions) each, and (num_samples, num_positions)
    normal, log_uniform, exponential = (
        part.to(concentration) for part in torch.from_numpy(noise).split([NUM_PROPOSALS, NUM_PROPOSALS, 1])
    )
    shifted = concentration + 1 - 1 / 3
    scale = (9 * shifted).rsqrt()
    log_cube = torch.zeros_like(concentration)
    for proposal in reversed(range(NUM_PROPOSALS)):
        cube = (1 + scale * normal[proposal]) ** 3
        candidate = cube.clamp(min=torch.finfo(cube.dtype).tiny).log()
        accepted = log_uniform[proposal] < normal[proposal] ** 2 / 2 + shifted * (1 - cube + candidate)
        log_cube = torch.where(accepted & (cube > 0), candidate, log_cube)
    return _normalize(shifted.log() + log_cube, exponential[0], concentration, mask)


def dirichlet_divergence(log_concentration: torch.Tensor, other: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """
    KL(Dir(exp(log_concentration)) || Dir(exp(other))) of each row, in nats. Shape: (num_rows, num_positions) of all
    three; of the result (num_rows,).
    """
    concentration, other_concentration = log_concentration.exp(), other.exp()
    total = _masked_sum(concentration, mask)
    expected_log = concentration.digamma() - total.digamma().unsqueeze(-1)
    return (
        total.lgamma()
        - _masked_sum(other_concentration, mask).lgamma()
        + _masked_sum(other_concentration.lgamma() - concentration.lgamma(), mask)
        + _masked_sum((concentration - other_concentration) * expected_log, mask)
    )


def _normalize(
    log_gamma: torch.Tensor, exponential: torch.Tensor, concentration: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """
    Samples of Dir(a) from the logarithms of samples of Gamma(a + 1) and from samples of the exponential distribution.
    Gamma(a + 1) times U^(1 / a) is Gamma(a); only as a logarithm does it not become 0 when a is small.
    """
    return (log_gamma - exponential / concentration).masked_fill(~mask.unsqueeze(1), -torch.inf).softmax(-1)


def _masked_sum(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return torch.where(mask, values, 0.0).sum(-1)


@functools.lru_cache(maxsize=2048)
def _fixed_noise(position: int, num_samples: int) -> numpy.ndarray:
    """
    Normal, then log-uniform numbers for each proposal, then exponential ones.
    Shape: (2 * num_proposals + 1, num_samples).
    """
    generator = numpy.random.default_rng([position, num_samples])
    return numpy.concatenate(
        [
            generator.standard_normal((NUM_PROPOSALS, num_samples)),
            # The logarithm of a uniform number is an exponential one, negative.
            -generator.standard_exponential((NUM_PROPOSALS, num_samples)),
            generator.standard_exponential((1, num_samples)),
        ]
    )
