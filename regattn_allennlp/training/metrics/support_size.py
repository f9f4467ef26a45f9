import torch
from allennlp.training.metrics import Metric

from regattn_allennlp.training.metrics.attention_metric import AttentionMetric


@Metric.register("support_size")
class SupportSize(AttentionMetric):
    """
    How many words a word attends to: the number of weights in a row that are not exactly 0, from 1 to the row's
    length; its mean over rows.

    Registered as a `Metric` with name "support_size".
    """

    def measure(self, weights: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return ((weights != 0) & mask).sum(-1), mask.any(-1)
