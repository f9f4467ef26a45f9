import torch
from allennlp.training.metrics import Metric

from regattn_allennlp.training.metrics.attention_metric import AttentionMetric


@Metric.register("segment_count")
class SegmentCount(AttentionMetric):
    """
    The number of segments in a row: longest runs of neighbouring words with the same weight, not 0. A word alone is
    one too. Its mean over rows. fusedmax makes few segments; the support has one segment a word where no neighbours
    are equal.

    Weights are the same if they are equal to the last bit, as those of a segment or a group are. Words with only
    masked ones between them are neighbours.

    Registered as a `Metric` with name "segment_count".
    """

    def measure(self, weights: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # The words that are there come first, in their order; the others follow with weight 0.
        order = (~mask).to(torch.uint8).argsort(dim=-1, stable=True)
        weights = weights.masked_fill(~mask, 0).gather(-1, order)
        before = torch.nn.functional.pad(weights, (1, 0))[..., :-1]
        return ((weights != 0) & (weights != before)).sum(-1), mask.any(-1)
