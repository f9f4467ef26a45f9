import torch
from allennlp.training.metrics import Metric

from regattn_allennlp.training.metrics.attention_metric import AttentionMetric


@Metric.register("zero_weight_fraction")
class ZeroWeightFraction(AttentionMetric):
    """
    The fraction of attention weights that are exactly 0, among those that the mask lets count, each counting alike.

    Registered as a `Metric` with name "zero_weight_fraction".
    """

    def measure(self, weights: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return weights == 0, mask
