from regattn_allennlp.predictors.entailment import EntailmentPredictor
from regattn_allennlp.predictors.sequence_pairs import SequencePairsPredictor

__all__ = ["EntailmentPredictor", "SequencePairsPredictor"]
