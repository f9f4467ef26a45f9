import torch
from allennlp.training.metrics import Metric

from regattn_allennlp.training.metrics.attention_metric import AttentionMetric


@Metric.register("attention_entropy")
class AttentionEntropy(AttentionMetric):
    """
    Shannon's entropy of a row's weights, -sum_i p_i log p_i, in nats; its mean over rows. 0 where one word has all the
    weight, log n where n words share it evenly.

    Registered as a `Metric` with name "attention_entropy".
    """

    def measure(self, weights: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # At least in float32: half precision has no place for small weights' logarithms.
        weights = weights.to(torch.promote_types(weights.dtype, torch.float32)).masked_fill(~mask, 0)
        return torch.special.entr(weights).sum(-1), mask.any(-1)
