from collections.abc import Sequence

from regattn_allennlp.training.metrics.text_metrics.text_metric import TextMetric


@TextMetric.register("exact_match")
class ExactMatch(TextMetric):
    """
    The share of predictions that are right in every character, from 0 to 1. How texts are spaced does not count.

    Registered as a `TextMetric` with name "exact_match", which is also the name of its score.
    """

    @property
    def names(self) -> tuple[str, ...]:
        return ("exact_match",)

    def statistics(self, predictions: Sequence[str], references: Sequence[str]) -> list[list[float]]:
        return [[1, self.sentence_score(*texts)] for texts in zip(predictions, references, strict=True)]

    def scores(self, sums: list[float]) -> dict[str, float]:
        count, matches = sums
        return {"exact_match": matches / count}

    def sentence_score(self, prediction: str, reference: str) -> float:
        return float(prediction.split() == reference.split())
