from sacrebleu.metrics import CHRF

from regattn_allennlp.training.metrics.text_metrics.sacrebleu_metric import SacrebleuMetric
from regattn_allennlp.training.metrics.text_metrics.text_metric import TextMetric


@TextMetric.register("chrf")
class Chrf(SacrebleuMetric):
    """
    chrF2 (Popovic 2015), the F score of character n-grams, by sacrebleu, from 0 to 100. With the defaults, sacrebleu's
    signature of the score is `nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no`.

    Registered as a `TextMetric` with name "chrf", which is also the name of its score.

    # Parameters

    word_order : `int`, optional (default = `0`)
        2 for chrF++, which counts n-grams of words as well.
    lowercase : `bool`, optional (default = `False`)
        Take upper and lower case for the same.
    """

    name = "chrf"

    def __init__(self, word_order: int = 0, lowercase: bool = False) -> None:
        metric = CHRF(word_order=word_order, lowercase=lowercase)
        super().__init__(metric, metric)
