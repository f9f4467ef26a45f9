from regattn_allennlp.visualization.attention_map import attention_map
from regattn_allennlp.visualization.equal_weights import equal_groups, equal_runs

__all__ = ["attention_map", "equal_groups", "equal_runs"]
