import math

import pytest
import torch
from allennlp.training.metrics import Metric
from hypothesis import given, settings
from hypothesis import strategies as st

from regattn_allennlp import fusedmax, oscarmax, softmax
from regattn_allennlp.training.metrics import AttentionStatistics

# A row's weights, what is there of it, and its zeros, support, entropy, segments and different weights.
HAND_MADE = [
    ([1.0, 0.0, 0.0, 0.0], "1111", (0.75, 1, 0.0, 1, 2)),
    ([0.25, 0.25, 0.25, 0.25], "1111", (0.0, 4, math.log(4), 1, 1)),
    ([0.25, 0.25, 0.0, 0.5], "1111", (0.25, 3, math.log(4) / 2 + math.log(2) / 2, 2, 3)),
    # A group that is not contiguous: two segments, one weight beside 0.
    ([0.5, 0.0, 0.0, 0.5], "1111", (0.5, 2, math.log(2), 2, 2)),
    # Neighbours with only a masked word between them.
    ([0.5, 0.0, 0.5, 0.0], "1011", (1 / 3, 2, math.log(2), 1, 2)),
    ([0.5, 0.0, 0.5, 0.0], "1010", (0.0, 2, math.log(2), 1, 1)),
    # A segment ends where another weight begins, without a 0 between.
    ([0.125, 0.125, 0.25, 0.5], "1111", (0.0, 4, 1.75 * math.log(2), 3, 3)),
    # What is masked does not count, whatever it holds.
    ([float("nan"), 1.0, float("nan"), 7.0], "0100", (0.0, 1, 0.0, 1, 1)),
]
NAMES = ("zeros", "support_size", "entropy", "segments", "distinct_weights")


def mask_of(pattern: str) -> torch.Tensor:
    return torch.tensor([character == "1" for character in pattern])


@pytest.mark.parametrize("weights, pattern, expected", HAND_MADE)
def test_a_row_by_hand(weights, pattern, expected):
    statistics = AttentionStatistics()
    statistics(torch.tensor([weights], dtype=torch.float64), mask_of(pattern))
    assert statistics.get_metric() == pytest.approx(dict(zip(NAMES, expected, strict=True)), rel=1e-6)


def test_rows_count_alike_and_rows_without_words_do_not_count():
    statistics = AttentionStatistics()
    statistics(torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[True, True], [False, False]]))
    statistics(torch.tensor([[0.5, 0.5]]), torch.tensor([[True, True]]))
    expected = {"zeros": 0.25, "support_size": 1.5, "entropy": math.log(2) / 2, "segments": 1, "distinct_weights": 1.5}
    assert statistics.get_metric(reset=True) == pytest.approx(expected)
    assert set(statistics.get_metric().values()) == {0.0}


@pytest.mark.parametrize(
    "name, expected",
    [
        ("zero_weight_fraction", 0.25),
        ("support_size", 3),
        ("attention_entropy", 1.5 * math.log(2)),
        ("segment_count", 2),
        ("distinct_weight_count", 3),
    ],
)
def test_each_is_registered(name, expected):
    metric = Metric.by_name(name)()
    metric(torch.tensor([[0.25, 0.25, 0.0, 0.5]]), torch.ones(4, dtype=torch.bool))
    assert metric.get_metric() == pytest.approx(expected)


def test_half_precision_is_measured_as_it_is():
    weights = torch.full((1, 10), 0.1, dtype=torch.bfloat16)
    statistics = AttentionStatistics()
    statistics(weights, torch.ones(10, dtype=torch.bool))
    assert statistics.get_metric()["entropy"] == pytest.approx(-10 * weights[0, 0].item() * math.log(weights[0, 0]))


def measured_one_by_one(weights: list[float], mask: list[bool]) -> dict[str, float]:
    present = [weight for weight, is_there in zip(weights, mask, strict=True) if is_there]
    segments, before = 0, 0.0
    for weight in present:
        segments += weight not in (0.0, before)
        before = weight
    return {
        "zeros": present.count(0.0) / len(present),
        "support_size": len(present) - present.count(0.0),
        "entropy": -sum(weight * math.log(weight) for weight in present if weight > 0),
        "segments": segments,
        "distinct_weights": len(set(present)),
    }


@settings(deadline=None)  # the first call compiles
@given(data=st.data(), operator=st.sampled_from([softmax, fusedmax, oscarmax]))
def test_operators_rows_are_measured_as_one_by_one(data, operator):
    length = data.draw(st.integers(1, 9))
    # Scores from few values, so that neighbours and groups often are equal.
    scores = data.draw(st.lists(st.sampled_from([0.0, 0.5, 0.6, 2.0]), min_size=length, max_size=length))
    mask = data.draw(st.lists(st.booleans(), min_size=length, max_size=length).filter(any))
    weights = operator(torch.tensor([scores]), torch.tensor([mask]))
    statistics = AttentionStatistics()
    statistics(weights, torch.tensor([mask]))
    assert statistics.get_metric() == pytest.approx(measured_one_by_one(weights[0].tolist(), mask), abs=1e-6)
