import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from regattn_allennlp.comparison.calibration import expected_calibration_error, negative_log_likelihood, pavpu


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


def test_negative_log_likelihood_by_hand():
    probabilities = np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [0.0, 1.0, 0.0]])
    labels = np.array([1, 2, 1])
    with np.errstate(divide="ignore"):
        logarithms = np.log(probabilities)
    expected = (math.log(4) - math.log(0.8) + 0) / 3
    assert negative_log_likelihood(logarithms, labels) == pytest.approx(expected)
    # Logits do: a constant for each item makes no difference, however large.
    shifted = logarithms[:2] + np.array([[1000.0], [-1000.0]])
    assert negative_log_likelihood(shifted, labels[:2]) == pytest.approx((math.log(4) - math.log(0.8)) / 2)
    assert negative_log_likelihood(logarithms[2:], np.array([0])) == math.inf
    # And small probabilities are not lost in rounding.
    assert negative_log_likelihood(np.array([[0.0, -800.0]], dtype=np.float32), np.array([1])) == pytest.approx(800)


@given(data=st.data(), num_items=st.integers(1, 30), num_labels=st.integers(2, 4))
def test_negative_log_likelihood_is_pytorchs_cross_entropy(data, num_items, num_labels):
    logits = data.draw(hnp.arrays(np.float64, (num_items, num_labels), elements=st.floats(-50, 50)))
    labels = data.draw(hnp.arrays(np.int64, num_items, elements=st.integers(0, num_labels - 1)))
    expected = torch.nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)).item()
    assert negative_log_likelihood(logits, labels) == pytest.approx(expected, abs=1e-9)


def test_pavpu_by_hand():
    # Of two labels half of the greatest entropy is 0.3466: that of 0.9 is 0.3251, that of 0.88 is 0.3669.
    probabilities = two_labels([1.0, 0.9, 0.88, 0.5, 0.9, 0.6, 0.95])
    labels = np.array([0, 0, 0, 0, 1, 1, 1])
    # Right and certain: 2. Right and uncertain: 2. Wrong and certain: 2 (the fifth and the last). Wrong and
    # uncertain: 1.
    assert pavpu(probabilities, labels) == pytest.approx((2 + 1) / 7)
    # Certain of everything: the accuracy. Of nothing: the rest.
    assert pavpu(probabilities, labels, threshold=math.log(2) + 1e-9) == pytest.approx(4 / 7)
    assert pavpu(probabilities[1:], labels[1:], threshold=0) == pytest.approx(3 / 6)


def test_pavpu_at_the_threshold_is_certain():
    # An entropy of exactly 0.
    assert pavpu(two_labels([1.0, 1.0]), np.array([0, 1]), threshold=0) == 0.5


@given(data=st.data(), num_items=st.integers(1, 40), num_labels=st.integers(2, 4), fraction=st.floats(0.05, 0.95))
def test_pavpu_by_counting(data, num_items, num_labels, fraction):
    scores = data.draw(hnp.arrays(np.float64, (num_items, num_labels), elements=st.integers(0, 20)))
    scores[:, 0] += 1
    labels = data.draw(hnp.arrays(np.int64, num_items, elements=st.integers(0, num_labels - 1)))
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    counts = {(right, certain): 0 for right in (True, False) for certain in (True, False)}
    # No entropy of such fractions is this number.
    threshold = fraction * math.log(num_labels) + 1e-7 * math.pi
    for row, label in zip(probabilities.tolist(), labels, strict=True):
        entropy = sum(-p * math.log(p) for p in row if p)
        counts[row.index(max(row)) == label, entropy <= threshold] += 1
    expected = (counts[True, True] + counts[False, False]) / num_items
    assert pavpu(probabilities, labels, threshold) == pytest.approx(expected)
    assert 0 <= pavpu(probabilities, labels) <= 1
