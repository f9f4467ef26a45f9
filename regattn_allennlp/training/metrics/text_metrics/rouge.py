from collections.abc import Sequence

from rouge_score.rouge_scorer import RougeScorer

from regattn_allennlp.training.metrics.text_metrics.text_metric import TextMetric

# By our name, rouge-score's.
VARIANTS = {"rouge-l": "rougeL", "rouge-1": "rouge1", "rouge-2": "rouge2"}


@TextMetric.register("rouge")
class Rouge(TextMetric):
    """
    ROUGE (Lin 2004) by rouge-score: the mean over texts of the F1 score of common words ("rouge-1"), pairs of words
    ("rouge-2") and of the longest common subsequence of words ("rouge-l"), from 0 to 100 as papers give it. A sentence
    is judged by its "rouge-l".

    rouge-score splits texts into words of letters a to z and digits, in lower case: it is made for English.

    Registered as a `TextMetric` with name "rouge".

    # Parameters

    use_stemmer : `bool`, optional (default = `True`)
        Take words of the same stem, by Porter's stemmer, for the same, as ROUGE is published.
    """

    def __init__(self, use_stemmer: bool = True) -> None:
        super().__init__()
        self._scorer = RougeScorer(list(VARIANTS.values()), use_stemmer=use_stemmer)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(VARIANTS)

    def statistics(self, predictions: Sequence[str], references: Sequence[str]) -> list[list[float]]:
        return [[1, *self._f_scores(*texts)] for texts in zip(predictions, references, strict=True)]

    def scores(self, sums: list[float]) -> dict[str, float]:
        count, *totals = sums
        return {name: 100 * total / count for name, total in zip(VARIANTS, totals, strict=True)}

    def sentence_score(self, prediction: str, reference: str) -> float:
        return self._f_scores(prediction, reference)[0]

    def _f_scores(self, prediction: str, reference: str) -> list[float]:
        scores = self._scorer.score(reference, prediction)
        return [scores[variant].fmeasure for variant in VARIANTS.values()]
