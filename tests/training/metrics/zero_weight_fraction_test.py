import pytest
import torch
from allennlp.training.metrics import Metric

from regattn_allennlp.training.metrics import ZeroWeightFraction


def test_counts_zeros_where_the_mask_is_true_over_all_batches():
    metric = Metric.by_name("zero_weight_fraction")()
    assert metric.get_metric() == 0.0
    metric(torch.tensor([[0.5, 0.5, 0.0, 0.0]]), torch.tensor([[True, True, True, False]]))
    assert metric.get_metric() == pytest.approx(1 / 3)
    metric(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([True, True]))
    assert metric.get_metric(reset=True) == pytest.approx(3 / 7)
    assert metric.get_metric() == 0.0


def test_tiny_weights_are_not_zeros():
    metric = ZeroWeightFraction()
    metric(torch.tensor([1e-30, 0.0]), torch.tensor([True, True]))
    assert metric.get_metric() == 0.5
