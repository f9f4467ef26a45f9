from regattn_allennlp.nn.gnmt_length_penalty_scorer import GnmtLengthPenaltyScorer

__all__ = ["GnmtLengthPenaltyScorer"]
