from regattn_allennlp.models.attention_model import AttentionModel
from regattn_allennlp.models.regularized_decomposable_attention import RegularizedDecomposableAttention

__all__ = ["AttentionModel", "RegularizedDecomposableAttention"]
