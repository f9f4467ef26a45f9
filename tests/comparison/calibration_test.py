import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from regattn_allennlp.comparison.calibration import expected_calibration_error


def two_labels(confidences) -> np.ndarray:
    """Items of which label 0 is predicted with these confidences."""
    return np.array([[confidence, 1 - confidence] for confidence in confidences])


def test_by_hand():
    # Bin (0.5, 0.75]: confidence 0.65, 1 of 2 correct. Bin (0.75, 1]: confidence 0.9, 1 of 3 correct.
    probabilities = two_labels([0.6, 0.7, 0.8, 0.9, 1.0])
    labels = np.array([0, 1, 1, 0, 1])
    expected = 2 / 5 * (0.65 - 1 / 2) + 3 / 5 * (0.9 - 1 / 3)
    assert expected_calibration_error(probabilities, labels, num_bins=4) == pytest.approx(expected)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    # Together in (0.5, 0.75] the errors would cancel: they must not where 0.5 is in the bin below.
    probabilities, labels = two_labels([0.5, 0.75]), np.array([0, 1])
    assert expected_calibration_error(probabilities, labels, num_bins=4) == pytest.approx((0.5 + 0.75) / 2)
    # And they do where both are in (0.5, 1] or all is one bin.
    assert expected_calibration_error(two_labels([0.75, 0.75]), labels, num_bins=2) == pytest.approx(0.25)
    assert expected_calibration_error(probabilities, labels, num_bins=1) == pytest.approx(0.125)


@pytest.mark.parametrize("num_bins", [1, 10, 15])
def test_perfectly_calibrated_is_0(num_bins):
    probabilities = two_labels([0.75] * 4 + [1.0] * 3)
    labels = np.array([0, 0, 0, 1] + [0] * 3)
    assert expected_calibration_error(probabilities, labels, num_bins) == pytest.approx(0)


def test_sure_and_wrong_is_1_also_in_single_precision():
    probabilities = np.array([[0, 1 + 1e-7], [0, 1]], dtype=np.float32)
    assert expected_calibration_error(probabilities, np.array([0, 0])) == pytest.approx(1)


@given(data=st.data(), num_items=st.integers(1, 40), num_labels=st.integers(2, 4), num_bins=st.integers(1, 20))
def test_the_definition(data, num_items, num_labels, num_bins):
    scores = data.draw(hnp.arrays(np.float64, (num_items, num_labels), elements=st.integers(1, 20)))
    labels = data.draw(hnp.arrays(np.int64, num_items, elements=st.integers(0, num_labels - 1)))
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    expected = 0.0
    for m in range(1, num_bins + 1):
        inside = [i for i in range(num_items) if (m - 1) / num_bins < max(probabilities[i]) <= m / num_bins]
        if inside:
            accuracy = sum(list(probabilities[i]).index(max(probabilities[i])) == labels[i] for i in inside)
            confidence = sum(max(probabilities[i]) for i in inside)
            expected += len(inside) / num_items * abs(accuracy / len(inside) - confidence / len(inside))
    assert expected_calibration_error(probabilities, labels, num_bins) == pytest.approx(expected, abs=1e-12)
