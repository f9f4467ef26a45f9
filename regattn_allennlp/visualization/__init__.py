from regattn_allennlp.visualization.attention_map import attention_map
from regattn_allennlp.visualization.equal_weights import equal_groups, equal_runs
from regattn_allennlp.visualization.notebook import AttentionHtml, attention_html

__all__ = ["AttentionHtml", "attention_html", "attention_map", "equal_groups", "equal_runs"]
