from collections.abc import Sequence

import torch
from allennlp.nn.util import dist_reduce_sum
from allennlp.training.metrics import Metric


class TextMetric(Metric):
    """
    How good predicted texts are, each compared with one that is right. All of them are made of numbers that are summed
    over texts, batches and processes; a subclass says which, and what score they give.
    """

    def __init__(self) -> None:
        self._sums: list[float] = []

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the scores, as in `get_metric`; the first is the one that a text is judged by."""
        raise NotImplementedError

    def __call__(self, predictions: Sequence[str], references: Sequence[str]) -> None:  # type: ignore[override]
        """Each prediction has its reference in the same place. Neither may be empty lists; texts may be empty."""
        statistics = torch.tensor(self.statistics(predictions, references), dtype=torch.float64).sum(dim=0)
        sums = dist_reduce_sum(statistics).tolist()
        self._sums = [a + b for a, b in zip(self._sums, sums, strict=True)] if self._sums else sums

    def statistics(self, predictions: Sequence[str], references: Sequence[str]) -> list[list[float]]:
        """The numbers that are summed, for each prediction as many."""
        raise NotImplementedError

    def scores(self, sums: list[float]) -> dict[str, float]:
        """The scores, by their names, of texts whose `statistics` have these sums."""
        raise NotImplementedError

    def sentence_score(self, prediction: str, reference: str) -> float:
        """How good one prediction is: from 0 to 1, the higher the better."""
        raise NotImplementedError

    def get_metric(self, reset: bool = False) -> dict[str, float]:
        """The scores of all texts so far; without any there are none."""
        scores = self.scores(self._sums) if self._sums else {}
        if reset:
            self.reset()
        return scores

    def reset(self) -> None:
        self._sums = []
