from regattn_allennlp.visualization.equal_weights import equal_groups, equal_runs

__all__ = ["equal_groups", "equal_runs"]
