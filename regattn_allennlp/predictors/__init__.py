from regattn_allennlp.predictors.entailment import EntailmentPredictor
from regattn_allennlp.predictors.graphs import GraphsPredictor
from regattn_allennlp.predictors.sequence_pairs import SequencePairsPredictor
from regattn_allennlp.predictors.vqa import VqaPredictor

__all__ = ["EntailmentPredictor", "GraphsPredictor", "SequencePairsPredictor", "VqaPredictor"]
