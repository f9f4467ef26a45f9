import torch
from allennlp.nn.util import dist_reduce_sum
from allennlp.training.metrics import Metric


@Metric.register("item_average")
class ItemAverage(Metric):
    """
    The average of a number that each item of a batch has, over all items; 0 if there were none.

    Registered as a `Metric` with name "item_average".
    """

    def __init__(self) -> None:
        self.reset()

    def __call__(self, values: torch.Tensor) -> None:  # type: ignore[override]
        """Takes values of shape (num_items,)."""
        self._total += dist_reduce_sum(values.detach().double().sum().item())
        self._count += dist_reduce_sum(values.numel())

    def get_metric(self, reset: bool = False) -> float:
        average = self._total / self._count if self._count else 0.0
        if reset:
            self.reset()
        return average

    @property
    def count(self) -> int:
        return self._count

    def reset(self) -> None:
        self._total = 0.0
        self._count = 0
