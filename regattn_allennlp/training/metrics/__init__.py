from regattn_allennlp.training.metrics.alignment_error_rate import AlignmentErrorRate
from regattn_allennlp.training.metrics.attention_entropy import AttentionEntropy
from regattn_allennlp.training.metrics.attention_statistics import AttentionStatistics
from regattn_allennlp.training.metrics.distinct_weight_count import DistinctWeightCount
from regattn_allennlp.training.metrics.item_average import ItemAverage
from regattn_allennlp.training.metrics.segment_count import SegmentCount
from regattn_allennlp.training.metrics.support_size import SupportSize
from regattn_allennlp.training.metrics.token_perplexity import TokenPerplexity
from regattn_allennlp.training.metrics.zero_weight_fraction import ZeroWeightFraction

__all__ = [
    "AlignmentErrorRate",
    "AttentionEntropy",
    "AttentionStatistics",
    "DistinctWeightCount",
    "ItemAverage",
    "SegmentCount",
    "SupportSize",
    "TokenPerplexity",
    "ZeroWeightFraction",
]
