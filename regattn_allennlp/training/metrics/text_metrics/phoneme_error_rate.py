from collections.abc import Sequence

import jiwer

from regattn_allennlp.training.metrics.text_metrics.text_metric import TextMetric


@TextMetric.register("phoneme_error_rate")
class PhonemeErrorRate(TextMetric):
    """
    How many phonemes, what spaces separate in a text, have to be put in, taken out or replaced to make the references
    of the predictions, by jiwer: the sum over all texts, divided by the number of phonemes of the references. 0 is
    right, and there may be more errors than phonemes. Low is good, so that a training that learns by it says
    `"validation_metric": "-phoneme_error_rate"`.

    A text's own score, which is the higher the better, is 1 less its error rate, at least 0.

    Registered as a `TextMetric` with name "phoneme_error_rate", which is also the name of its score.
    """

    @property
    def names(self) -> tuple[str, ...]:
        return ("phoneme_error_rate",)

    def statistics(self, predictions: Sequence[str], references: Sequence[str]) -> list[list[float]]:
        return [_errors_and_length(*texts) for texts in zip(predictions, references, strict=True)]

    def scores(self, sums: list[float]) -> dict[str, float]:
        return {"phoneme_error_rate": _rate(*sums)}

    def sentence_score(self, prediction: str, reference: str) -> float:
        return max(0.0, 1 - _rate(*_errors_and_length(prediction, reference)))


def _errors_and_length(prediction: str, reference: str) -> list[float]:
    output = jiwer.process_words(reference, prediction)
    errors = output.substitutions + output.deletions + output.insertions
    return [errors, output.hits + output.substitutions + output.deletions]


def _rate(errors: float, length: float) -> float:
    # Of no phonemes at all any that is predicted is wrong.
    return errors / length if length else float(errors)
