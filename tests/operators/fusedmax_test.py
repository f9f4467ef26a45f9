import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from regattn_allennlp import Fusedmax, fusedmax
from tests.operators.common import gammas, lams, property_test

EXAMPLES = [
    # The total variation takes lam from an end that is higher than its neighbour and gives it to one that is lower:
    # (0.9, 0.2, 0.1), threshold 0.2 / 3.
    ([1.0, 0.2, 0.0], 1.0, 0.1, [25 / 30, 4 / 30, 1 / 30]),
    # A peak loses 2 lam, a valley gains 2 lam: (0.3, 0.4, 0.3, 0.4) less its threshold.
    ([0.2, 0.6, 0.1, 0.5], 1.0, 0.1, [0.2, 0.3, 0.2, 0.3]),
    # The first two fuse, at (1 + 0.9) / 2 less lam / 2; the last gains lam: (0.85, 0.85, 0.2).
    ([1.0, 0.9, 0.0], 1.0, 0.2, [0.5, 0.5, 0.0]),
    # The same divided by gamma.
    ([2.0, 1.8, 0.0], 2.0, 0.2, [0.5, 0.5, 0.0]),
    # Equal scores that do not touch get different weights: 0.9 for the end, 0.8 for the peak, 0.2 for the valley.
    ([1.0, 0.0, 1.0, 0.0], 1.0, 0.1, [0.55, 0.0, 0.45, 0.0]),
    ([0.5, 0.2, 0.4, 0.1], 1.0, 5.0, [0.25, 0.25, 0.25, 0.25]),
]


@pytest.mark.parametrize("scores, gamma, lam, expected", EXAMPLES)
def test_fusedmax_by_hand(scores, gamma, lam, expected):
    weights = fusedmax(torch.tensor(scores, dtype=torch.float64), gamma=gamma, lam=lam)
    assert_close(weights, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-15)
    assert (weights == 0).tolist() == [weight == 0 for weight in expected]


@property_test
@given(st.floats(-5, 5), st.floats(-5, 5), gammas, lams)
def test_fusedmax_of_two_scores(first, second, gamma, lam):
    # Both are moved by lam towards each other, until they meet.
    low, high = sorted([first / gamma, second / gamma])
    larger = min((1 + max(high - low - 2 * lam, 0.0)) / 2, 1.0)
    expected = [larger, 1 - larger] if first > second else [1 - larger, larger]
    weights = fusedmax(torch.tensor([first, second], dtype=torch.float64), gamma=gamma, lam=lam)
    assert_close(weights, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


def test_lam_is_one_tenth_unless_given():
    scores = torch.tensor([1.0, 0.2, 0.0])
    assert Fusedmax().lam == 0.1
    assert torch.equal(fusedmax(scores), fusedmax(scores, lam=0.1))
    assert not torch.equal(fusedmax(scores), fusedmax(scores, lam=0.2))


def test_positions_with_only_masked_ones_between_them_are_neighbours():
    # Without the masked score this is the third example above: the first two fuse.
    scores = torch.tensor([1.0, -7.0, 0.9, 0.0])
    mask = torch.tensor([True, False, True, True])
    assert_close(fusedmax(scores, mask, lam=0.2), torch.tensor([0.5, 0.0, 0.5, 0.0]))
    # And they share one block: a gradient that reaches one of them is spread over both.
    scores = torch.tensor([1.0, -7.0, 0.9, 0.6], requires_grad=True)
    weights = fusedmax(scores, mask, lam=0.2)
    weights[0].backward()
    # 1/2 for the block's mean, less 1/3 for the support's.
    assert_close(scores.grad, torch.tensor([1 / 6, 0.0, 1 / 6, -1 / 3]))


def test_value_by_hand():
    # The second example above: <p, x> = 0.39, |p|^2 / 2 = 0.13, the total variation 0.3.
    scores = torch.tensor([0.2, 0.6, 0.1, 0.5], dtype=torch.float64)
    assert_close(Fusedmax(lam=0.1).value(scores).item(), 0.39 - 0.13 - 0.1 * 0.3)
    assert_close(Fusedmax(gamma=2.0, lam=0.1).value(2 * scores).item(), 2 * (0.39 - 0.13 - 0.1 * 0.3))
