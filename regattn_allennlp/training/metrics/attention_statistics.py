from typing import ClassVar

import torch
from allennlp.training.metrics import Metric

from regattn_allennlp.training.metrics.attention_entropy import AttentionEntropy
from regattn_allennlp.training.metrics.attention_metric import AttentionMetric
from regattn_allennlp.training.metrics.distinct_weight_count import DistinctWeightCount
from regattn_allennlp.training.metrics.segment_count import SegmentCount
from regattn_allennlp.training.metrics.support_size import SupportSize
from regattn_allennlp.training.metrics.zero_weight_fraction import ZeroWeightFraction


@Metric.register("attention_statistics")
class AttentionStatistics(Metric):
    """
    All that tells how sparse and structured attention is, by name: "zeros" (`ZeroWeightFraction`), "support_size",
    "entropy", "segments" (`SegmentCount`) and "distinct_weights" (`DistinctWeightCount`).

    Registered as a `Metric` with name "attention_statistics".
    """

    METRICS: ClassVar[dict[str, type[AttentionMetric]]] = {
        "zeros": ZeroWeightFraction,
        "support_size": SupportSize,
        "entropy": AttentionEntropy,
        "segments": SegmentCount,
        "distinct_weights": DistinctWeightCount,
    }

    def __init__(self) -> None:
        self._metrics = {name: metric() for name, metric in self.METRICS.items()}

    def __call__(self, weights: torch.Tensor, mask: torch.Tensor) -> None:  # type: ignore[override]
        """Parameters as of `AttentionMetric`."""
        for metric in self._metrics.values():
            metric(weights, mask)

    def get_metric(self, reset: bool = False) -> dict[str, float]:  # type: ignore[override]
        return {name: metric.get_metric(reset) for name, metric in self._metrics.items()}

    def reset(self) -> None:
        for metric in self._metrics.values():
            metric.reset()
