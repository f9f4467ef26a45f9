import pytest
import torch

from regattn_allennlp.training.metrics import ItemAverage


def test_every_item_counts_alike_whatever_its_batch():
    metric = ItemAverage()
    assert metric.get_metric() == 0 and metric.count == 0
    metric(torch.tensor([1.0, 0.0, 0.5], requires_grad=True))
    metric(torch.tensor([0.5]))
    metric(torch.empty(0))
    assert metric.get_metric() == pytest.approx(0.5) and metric.count == 4
    assert metric.get_metric(reset=True) == pytest.approx(0.5)
    assert metric.get_metric() == 0 and metric.count == 0
