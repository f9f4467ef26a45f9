import torch
from allennlp.nn.util import dist_reduce_sum
from allennlp.training.metrics import Metric


class AttentionMetric(Metric):
    """
    The mean of something measured on attention weights, over all batches and processes. A subclass says what.

    Rows are along the last dimension: the weights of one word over the words it may attend to. What a mask leaves out
    is not there at all: a row is measured as if only its other positions existed, in their order, and a row with
    nothing left is not counted.
    """

    def __init__(self) -> None:
        self._total = 0.0
        self._count = 0.0

    def __call__(self, weights: torch.Tensor, mask: torch.Tensor) -> None:  # type: ignore[override]
        """
        # Parameters

        weights : `torch.Tensor`
            Any shape, of floating point. Each row sums to 1.
        mask : `torch.Tensor`
            Of dtype bool, broadcastable to `weights`; false where a weight belongs to padding.
        """
        values, counted = self.measure(weights.detach(), mask.expand_as(weights))
        # NaN in what does not count must not count either.
        total = values.masked_fill(~counted, 0).sum(dtype=torch.float32)
        sums = dist_reduce_sum(torch.stack([total, counted.sum(dtype=torch.float32)]))
        batch_total, batch_count = sums.tolist()
        self._total += batch_total
        self._count += batch_count

    def measure(self, weights: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The values, and in the same shape as bool which of them count. `mask` has the shape of `weights`."""
        raise NotImplementedError

    def get_metric(self, reset: bool = False) -> float:
        """The mean so far; 0.0 before anything was measured."""
        mean = self._total / self._count if self._count else 0.0
        if reset:
            self.reset()
        return mean

    def reset(self) -> None:
        self._total = 0.0
        self._count = 0.0
