from regattn_allennlp.modules.attention.attend import attend
from regattn_allennlp.modules.attention.constrained_sparsemax_attention import ConstrainedSparsemaxAttention
from regattn_allennlp.modules.attention.custom_max_attention import CustomMaxAttention
from regattn_allennlp.modules.attention.entmax_attention import EntmaxAttention
from regattn_allennlp.modules.attention.fusedmax_attention import FusedmaxAttention
from regattn_allennlp.modules.attention.normmax_attention import NormmaxAttention
from regattn_allennlp.modules.attention.oscarmax_attention import OscarmaxAttention
from regattn_allennlp.modules.attention.regularized_attention import (
    RegularizedAttention,
    learned_regularization,
    require_regularized_attention,
    require_weights,
)
from regattn_allennlp.modules.attention.softmax_attention import SoftmaxAttention
from regattn_allennlp.modules.attention.sparsemax_attention import SparsemaxAttention
from regattn_allennlp.modules.attention.squared_p_norm_max_attention import SquaredPNormMaxAttention
from regattn_allennlp.modules.attention.top_k_sparsemax_attention import TopKSparsemaxAttention

__all__ = [
    "ConstrainedSparsemaxAttention",
    "CustomMaxAttention",
    "EntmaxAttention",
    "FusedmaxAttention",
    "NormmaxAttention",
    "OscarmaxAttention",
    "RegularizedAttention",
    "SoftmaxAttention",
    "SparsemaxAttention",
    "SquaredPNormMaxAttention",
    "TopKSparsemaxAttention",
    "attend",
    "learned_regularization",
    "require_regularized_attention",
    "require_weights",
]
