import torch
from allennlp.training.metrics import Metric

from regattn_allennlp.training.metrics.attention_metric import AttentionMetric


@Metric.register("distinct_weight_count")
class DistinctWeightCount(AttentionMetric):
    """
    The number of different weights in a row, 0 being one of them where it occurs; its mean over rows. oscarmax makes
    few: one for each of its groups, wherever their words stand.

    Weights are the same if they are equal to the last bit, as those of a segment or a group are.

    Registered as a `Metric` with name "distinct_weight_count".
    """

    def measure(self, weights: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # In ascending order each new weight differs from the one before it. What is masked comes last.
        ordered = weights.masked_fill(~mask, float("inf")).sort(dim=-1).values
        is_new = (ordered[..., 1:] != ordered[..., :-1]) & ordered[..., 1:].isfinite()
        present = mask.any(-1)
        return is_new.sum(-1) + present, present
