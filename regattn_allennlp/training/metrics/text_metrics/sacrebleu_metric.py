from collections.abc import Sequence
from typing import ClassVar

import sacrebleu.metrics.base

from regattn_allennlp.training.metrics.text_metrics.text_metric import TextMetric


class SacrebleuMetric(TextMetric):
    """
    A corpus' score by sacrebleu (Post 2018, arXiv 1804.08771), from 0 to 100 as published: that of all texts taken
    together, not a mean. A sentence's score is the same score of the one sentence, divided by 100.

    # Parameters

    corpus_metric, sentence_metric : `sacrebleu.metrics.base.Metric`
        What scores corpora, and what scores single sentences.
    """

    name: ClassVar[str]

    def __init__(
        self, corpus_metric: sacrebleu.metrics.base.Metric, sentence_metric: sacrebleu.metrics.base.Metric
    ) -> None:
        super().__init__()
        self._corpus_metric = corpus_metric
        self._sentence_metric = sentence_metric

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    # sacrebleu's public functions score strings; the steps in between, the same for all of its metrics, are what lets
    # a corpus be scored that is spread over batches and processes.
    def statistics(self, predictions: Sequence[str], references: Sequence[str]) -> list[list[float]]:
        return self._corpus_metric._extract_corpus_statistics(predictions, [references])

    def scores(self, sums: list[float]) -> dict[str, float]:
        return {self.name: self._corpus_metric._compute_score_from_stats([int(number) for number in sums]).score}

    def sentence_score(self, prediction: str, reference: str) -> float:
        return self._sentence_metric.sentence_score(prediction, [reference]).score / 100
