from regattn_allennlp.training.metrics.zero_weight_fraction import ZeroWeightFraction

__all__ = ["ZeroWeightFraction"]
