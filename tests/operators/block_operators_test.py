"""First and second derivatives of all operators; and the Jacobian that the sparse ones share."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.autograd.functional import jacobian
from torch.testing import assert_close

from tests.operators.common import build, every_operator, random_mask, random_scores

every_setting = pytest.mark.parametrize("gamma, lam", [(1.0, 0.1), (0.5, 0.3), (3.0, 0.02)])


@every_operator
@every_setting
@pytest.mark.parametrize("dim", [-1, 0])
@pytest.mark.parametrize("masked", [False, True])
def test_derivatives_are_those_of_finite_differences(name, gamma, lam, dim, masked):
    operator = build(name, gamma, lam, dim)
    scores = random_scores(3, 5).movedim(-1, dim).requires_grad_()
    mask = random_mask(3, 5).movedim(-1, dim) if masked else None
    for of_scores in (operator, operator.value):
        assert gradcheck(of_scores, (scores, mask))
        assert gradgradcheck(of_scores, (scores, mask))


@every_operator
@every_setting
def test_the_jacobian_is_symmetric_and_its_rows_sum_to_zero(name, gamma, lam):
    operator = build(name, gamma, lam)
    for seed in range(10):
        row, mask = random_scores(7, seed=seed), random_mask(7, seed=seed)
        derivative = jacobian(lambda scores, mask=mask: operator(scores, mask), row)
        assert_close(derivative, derivative.t(), rtol=0, atol=1e-14)
        assert_close(derivative.sum(-1), torch.zeros_like(row), rtol=0, atol=1e-14)
        # Where the weight is 0 nothing moves, and nothing moves the others.
        assert (derivative[operator(row, mask) == 0] == 0).all()
        # The weights are the gradient of a convex function.
        assert (torch.linalg.eigvalsh(derivative) > -1e-12).all()


# Each row: the scores, lam, and what is averaged: the blocks within the support.
JACOBIANS = [
    ("sparsemax", [0.7, 0.5, -1.0, 0.3], 0.0, [[0], [1], [3]]),
    ("fusedmax", [1.0, 0.9, 0.6, -2.0], 0.2, [[0, 1], [2]]),
    ("fusedmax", [0.5, 0.2, 0.4, 0.1], 5.0, [[0, 1, 2, 3]]),
    ("oscarmax", [1.0, 0.5, -2.0, 0.9], 0.2, [[0, 3], [1]]),
]


@pytest.mark.parametrize("name, row, lam, blocks", JACOBIANS)
@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_the_jacobian_averages_within_blocks_less_over_the_support(name, row, lam, blocks, gamma):
    expected = torch.zeros(len(row), len(row), dtype=torch.float64)
    support = [position for block in blocks for position in block]
    for block in blocks:
        for position in block:
            expected[position, block] += 1 / len(block)
    for position in support:
        expected[position, support] -= 1 / len(support)
    scores = gamma * torch.tensor(row, dtype=torch.float64)
    assert_close(jacobian(build(name, gamma, lam), scores), expected / gamma, rtol=0, atol=1e-14)


def test_neighbouring_blocks_may_have_equal_levels():
    # At (1, 0.8) with lam 0.1 both values of the fused lasso reach 0.9: one block or two, but never a mixture.
    scores = torch.tensor([1.0, 0.8], dtype=torch.float64)
    derivative = jacobian(build("fusedmax", lam=0.1), scores)
    apart = torch.tensor([[0.5, -0.5], [-0.5, 0.5]], dtype=torch.float64)
    assert torch.equal(derivative, apart) or torch.equal(derivative, 0 * apart)


@every_operator
@pytest.mark.parametrize("row", [[0.0] * 9, [1.0, 0.0, 1.0, 0.0, 2.0, 1.0, 0.0, 2.0, 2.0], [1.0, 0.9, 0.8, 0.7] * 5])
@pytest.mark.parametrize("gamma, lam", [(1.0, 0.1), (1.0, 0.5), (1.0, 1.0), (0.1, 0.1), (3.0, 0.2)])
def test_ties_leave_the_weights_on_the_simplex_and_the_gradients_finite(name, row, gamma, lam):
    scores = torch.tensor(row, dtype=torch.float64)
    weights = build(name, gamma, lam)(scores)
    assert (weights >= 0).all()
    assert_close(weights.sum().item(), 1.0)
    derivative = jacobian(build(name, gamma, lam), scores)
    assert derivative.isfinite().all()
    assert_close(derivative, derivative.t(), rtol=0, atol=1e-13)
    assert_close(derivative.sum(-1), torch.zeros_like(scores), rtol=0, atol=1e-13)


@every_operator
def test_no_gradient_is_computed_that_is_not_wanted(name):
    assert not build(name)(random_scores(3)).requires_grad
    assert not build(name).value(random_scores(3)).requires_grad
    with torch.no_grad():
        assert not build(name)(random_scores(3).requires_grad_()).requires_grad


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@every_operator
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_results_on_cuda_are_those_on_the_cpu(name, dtype):
    scores, mask = random_scores(2, 3, 70, dtype=dtype), random_mask(3, 70)
    mask[1] = False
    upstream = random_scores(2, 3, 70, seed=1, dtype=dtype)
    operator = build(name, gamma=0.7)
    results = []
    for device in ("cpu", "cuda"):
        leaf = scores.to(device, copy=True).requires_grad_()
        weights = operator(leaf, mask.to(device))
        assert weights.device.type == device
        weights.backward(upstream.to(device))
        value = operator.value(leaf.detach(), mask.to(device))
        results.append((weights.detach().cpu(), leaf.grad.cpu(), value.cpu()))
    assert_close(results[1], results[0])
