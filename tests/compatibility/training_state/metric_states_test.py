import numpy as np
import torch
from allennlp.training.metrics import (
    BLEU,
    Average,
    BooleanAccuracy,
    CategoricalAccuracy,
    F1Measure,
    FBetaMeasure,
    Metric,
    PearsonCorrelation,
    SpearmanCorrelation,
)

from regattn_allennlp.compatibility.training_state.metric_states import metric_states, set_metric_states


class Counting(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.accuracy = CategoricalAccuracy()
        self.others = {
            "average": Average(),
            "boolean": BooleanAccuracy(),
            "f1": F1Measure(1),
            "fbeta": FBetaMeasure(),
            "pearson": PearsonCorrelation(),
            "spearman": SpearmanCorrelation(),
            "bleu": [BLEU(ngram_weights=(0.5, 0.5))],
        }

    def count(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        scores = torch.rand(20, 3, generator=generator)
        labels = torch.randint(3, (20,), generator=generator)
        for metric in (self.accuracy, self.others["f1"], self.others["fbeta"]):
            metric(scores, labels)
        self.others["average"](np.float64(scores.mean()))
        self.others["boolean"](scores.argmax(1), labels)
        for name in ("pearson", "spearman"):
            self.others[name](scores[:, 0], scores[:, 1])
        self.others["bleu"][0](labels.view(2, 10), scores.argmax(1).view(2, 10))

    def values(self) -> list:
        metrics: list[Metric] = [self.accuracy, *list(self.others.values())[:-1], *self.others["bleu"]]
        return [metric.get_metric() for metric in metrics]


def test_metrics_go_on_counting_from_the_states_of_a_file(tmp_path):
    model = Counting()
    model.count(1)
    torch.save(metric_states(model), tmp_path / "states")
    model.count(2)
    other = Counting()
    set_metric_states(other, torch.load(tmp_path / "states", weights_only=True), torch.device("cpu"))
    other.count(2)
    assert other.values() == model.values()
    fresh = Counting()
    fresh.count(2)
    assert all(value != counted for value, counted in zip(fresh.values(), model.values(), strict=True))
