import torch
from allennlp.nn.util import dist_reduce_sum
from allennlp.training.metrics import Metric


@Metric.register("zero_weight_fraction")
class ZeroWeightFraction(Metric):
    """
    The fraction of attention weights that are exactly 0, among those that the mask lets count.

    Registered as a `Metric` with name "zero_weight_fraction".
    """

    def __init__(self) -> None:
        self._num_zeros = 0
        self._num_weights = 0

    def __call__(self, weights: torch.Tensor, mask: torch.Tensor) -> None:  # type: ignore[override]
        """
        # Parameters

        weights : `torch.Tensor`
            Any shape.
        mask : `torch.Tensor`
            Broadcastable to `weights`; false where a weight belongs to padding.
        """
        mask = mask.expand_as(weights)
        self._num_zeros += dist_reduce_sum(((weights == 0) & mask).sum().item())
        self._num_weights += dist_reduce_sum(mask.sum().item())

    def get_metric(self, reset: bool = False) -> float:
        """The fraction so far; 0.0 before any weight was seen."""
        fraction = self._num_zeros / self._num_weights if self._num_weights else 0.0
        if reset:
            self.reset()
        return fraction

    def reset(self) -> None:
        self._num_zeros = 0
        self._num_weights = 0
