from regattn_allennlp.models.attention_model import AttentionModel
from regattn_allennlp.models.attentional_seq2seq import AttentionalSeq2Seq
from regattn_allennlp.models.attentional_vqa import AttentionalVqa
from regattn_allennlp.models.graph_node_classifier import GraphNodeClassifier
from regattn_allennlp.models.regularized_decomposable_attention import RegularizedDecomposableAttention

__all__ = [
    "AttentionModel",
    "AttentionalSeq2Seq",
    "AttentionalVqa",
    "GraphNodeClassifier",
    "RegularizedDecomposableAttention",
]
