import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from regattn_allennlp import Sparsemax, sparsemax
from tests.operators.common import gammas, property_test

EXAMPLES = [
    # All are in the support: the threshold is (1.5 - 1) / 3 = 1/6.
    ([0.7, 0.5, 0.3], 1.0, [16 / 30, 10 / 30, 4 / 30]),
    # The third is not: the threshold is (1.2 - 1) / 2 = 0.1.
    ([0.5, 0.7, -3.0], 1.0, [0.4, 0.6, 0.0]),
    # One gamma below the largest is weight 0 exactly.
    ([2.0, 1.0, 2.0, -1.0], 1.0, [0.5, 0.0, 0.5, 0.0]),
    ([1.0, 0.0, 0.5], 0.5, [1.0, 0.0, 0.0]),
    # Divided by gamma: 0.5, 0, 0.25; the threshold is (0.75 - 1) / 3.
    ([1.0, 0.0, 0.5], 2.0, [7 / 12, 1 / 12, 4 / 12]),
    ([-4.0, -4.0, -4.0, -4.0], 1.0, [0.25, 0.25, 0.25, 0.25]),
]


@pytest.mark.parametrize("scores, gamma, expected", EXAMPLES)
def test_sparsemax_by_hand(scores, gamma, expected):
    weights = sparsemax(torch.tensor(scores, dtype=torch.float64), gamma=gamma)
    assert_close(weights, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-15)
    # Zeros are exact.
    assert (weights == 0).tolist() == [weight == 0 for weight in expected]


@property_test
@given(st.floats(-5, 5), st.floats(-5, 5), gammas)
def test_sparsemax_of_two_scores(first, second, gamma):
    expected = min(max((1 + (first - second) / gamma) / 2, 0.0), 1.0)
    weights = sparsemax(torch.tensor([first, second], dtype=torch.float64), gamma=gamma)
    assert_close(weights, torch.tensor([expected, 1 - expected], dtype=torch.float64), rtol=0, atol=1e-12)


def test_value_by_hand():
    # <p, x> - |p|^2 / 2 with p = (0.4, 0.6, 0) is 0.62 - 0.26; gamma multiplies both the scores and Omega.
    scores = torch.tensor([0.5, 0.7, -3.0], dtype=torch.float64)
    assert_close(Sparsemax().value(scores).item(), 0.36)
    assert_close(Sparsemax(gamma=3.0).value(3.0 * scores).item(), 1.08)
