import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from regattn_allennlp import Oscarmax, oscarmax
from tests.operators.common import gammas, lams, property_test

EXAMPLES = [
    # Scores of both signs, where the code published with the paper gives (0.5, 0, 0.5).
    ([3.0, -3.2, 1.9], 1.0, 1.0, [0.55, 0.0, 0.45]),
    # In decreasing order 2 lam, lam and 0 are taken away: (0.6, 0.4, 0.3) less the threshold 0.1.
    ([0.8, 0.3, 0.5], 1.0, 0.1, [0.5, 0.2, 0.3]),
    # 1 - 0.4 and 0.9 - 0.2 are out of order, and pooled at 0.65, though their scores do not touch.
    ([1.0, 0.0, 0.9], 1.0, 0.2, [0.5, 0.0, 0.5]),
    ([2.0, 0.0, 1.8], 2.0, 0.2, [0.5, 0.0, 0.5]),
    # Pooled at 0.65, the third at 0.5: threshold (1.8 - 1) / 3.
    ([1.0, 0.5, 0.9], 1.0, 0.2, [23 / 60, 14 / 60, 23 / 60]),
    ([0.5, -0.2, 0.4, -0.1], 1.0, 5.0, [0.25, 0.25, 0.25, 0.25]),
]


@pytest.mark.parametrize("scores, gamma, lam, expected", EXAMPLES)
def test_oscarmax_by_hand(scores, gamma, lam, expected):
    weights = oscarmax(torch.tensor(scores, dtype=torch.float64), gamma=gamma, lam=lam)
    assert_close(weights, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-15)
    assert (weights == 0).tolist() == [weight == 0 for weight in expected]


@property_test
@given(st.floats(-5, 5), st.floats(-5, 5), gammas, lams)
def test_oscarmax_of_two_scores(first, second, gamma, lam):
    # The larger one is lowered by lam, until they meet.
    low, high = sorted([first / gamma, second / gamma])
    larger = min((1 + max(high - low - lam, 0.0)) / 2, 1.0)
    expected = [larger, 1 - larger] if first > second else [1 - larger, larger]
    weights = oscarmax(torch.tensor([first, second], dtype=torch.float64), gamma=gamma, lam=lam)
    assert_close(weights, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-12)


def test_lam_is_one_tenth_unless_given():
    scores = torch.tensor([1.0, 0.2, 0.0])
    assert Oscarmax().lam == 0.1
    assert torch.equal(oscarmax(scores), oscarmax(scores, lam=0.1))
    assert not torch.equal(oscarmax(scores), oscarmax(scores, lam=0.2))


def test_lam_counts_only_positions_in_the_problem():
    # The second example above, among masked scores.
    scores = torch.tensor([0.9, 0.8, 0.3, -1.0, 0.5], dtype=torch.float64)
    mask = torch.tensor([False, True, True, False, True])
    expected = torch.tensor([0.0, 0.5, 0.2, 0.0, 0.3], dtype=torch.float64)
    assert_close(oscarmax(scores, mask, lam=0.1), expected)


def test_value_by_hand():
    # The second example above: <p, x> = 0.61, |p|^2 / 2 = 0.19, the pairs' maxima 0.5 + 0.5 + 0.3.
    scores = torch.tensor([0.8, 0.3, 0.5], dtype=torch.float64)
    assert_close(Oscarmax(lam=0.1).value(scores).item(), 0.61 - 0.19 - 0.1 * 1.3)
    assert_close(Oscarmax(gamma=2.0, lam=0.1).value(2 * scores).item(), 2 * (0.61 - 0.19 - 0.1 * 1.3))
