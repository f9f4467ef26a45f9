from regattn_allennlp.predictors.entailment import EntailmentPredictor
from regattn_allennlp.predictors.vqa import VqaPredictor

__all__ = ["EntailmentPredictor", "VqaPredictor"]
