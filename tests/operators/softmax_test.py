import pytest
import torch
from torch.testing import assert_close

from regattn_allennlp import Softmax, softmax
from tests.operators.common import random_mask, random_scores


@pytest.mark.parametrize("gamma", [0.1, 1.0, 7.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softmax_is_that_of_torch(gamma, dtype):
    scores = random_scores(3, 4, 5, dtype=dtype)
    for dim in range(-3, 3):
        assert_close(softmax(scores, dim=dim, gamma=gamma), torch.softmax(scores / gamma, dim))


def test_masked_softmax_and_its_gradient_are_those_of_torch_with_minus_infinity():
    scores = random_scores(6, 5).requires_grad_()
    mask = random_mask(6, 5)
    upstream = random_scores(6, 5, seed=1)
    expected = torch.softmax(scores.masked_fill(~mask, -torch.inf), -1)
    (expected_gradient,) = torch.autograd.grad(expected, scores, upstream)
    weights = softmax(scores, mask)
    (gradient,) = torch.autograd.grad(weights, scores, upstream)
    assert_close(weights, expected)
    assert_close(gradient, expected_gradient)


@pytest.mark.parametrize("gamma", [0.1, 1.0, 7.0])
def test_value_is_the_logarithm_of_the_sum_of_exponentials(gamma):
    scores = random_scores(6, 5)
    mask = random_mask(6, 5)
    expected = gamma * torch.logsumexp(scores.masked_fill(~mask, -torch.inf) / gamma, -1)
    assert_close(Softmax(gamma).value(scores, mask), expected)


@pytest.mark.parametrize("gamma", [1e-300, 1e-46, 1e39, 1e300])
def test_gamma_may_be_outside_the_range_of_the_scores_dtype(gamma):
    scores = torch.tensor([1.0, 2.0, 2.0, 3.0], dtype=torch.float32)
    mask = torch.tensor([True, True, True, False])
    expected = [0.0, 0.5, 0.5, 0.0] if gamma < 1 else [1 / 3, 1 / 3, 1 / 3, 0.0]
    assert_close(softmax(scores, mask, gamma=gamma), torch.tensor(expected))
