from regattn_allennlp.modules.graph_encoders.graph_attention import GraphAttention
from regattn_allennlp.modules.graph_encoders.graph_encoder import GraphEncoder

__all__ = ["GraphAttention", "GraphEncoder"]
