from regattn_allennlp.modules.attention.fusedmax_attention import FusedmaxAttention
from regattn_allennlp.modules.attention.oscarmax_attention import OscarmaxAttention
from regattn_allennlp.modules.attention.regularized_attention import (
    RegularizedAttention,
    learned_regularization,
    require_regularized_attention,
)
from regattn_allennlp.modules.attention.softmax_attention import SoftmaxAttention
from regattn_allennlp.modules.attention.sparsemax_attention import SparsemaxAttention

__all__ = [
    "FusedmaxAttention",
    "OscarmaxAttention",
    "RegularizedAttention",
    "SoftmaxAttention",
    "SparsemaxAttention",
    "learned_regularization",
    "require_regularized_attention",
]
