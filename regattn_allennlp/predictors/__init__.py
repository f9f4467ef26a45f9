from regattn_allennlp.predictors.entailment import EntailmentPredictor

__all__ = ["EntailmentPredictor"]
