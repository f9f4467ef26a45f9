from regattn_allennlp.training.metrics.text_metrics.bleu import Bleu
from regattn_allennlp.training.metrics.text_metrics.chrf import Chrf
from regattn_allennlp.training.metrics.text_metrics.exact_match import ExactMatch
from regattn_allennlp.training.metrics.text_metrics.phoneme_error_rate import PhonemeErrorRate
from regattn_allennlp.training.metrics.text_metrics.rouge import Rouge
from regattn_allennlp.training.metrics.text_metrics.text_metric import TextMetric

__all__ = ["Bleu", "Chrf", "ExactMatch", "PhonemeErrorRate", "Rouge", "TextMetric"]
