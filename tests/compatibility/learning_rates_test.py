import pytest
import torch
from allennlp.common import Params
from allennlp.training.learning_rate_schedulers import LearningRateScheduler

import regattn_allennlp.compatibility  # noqa: F401


@pytest.mark.parametrize("options", [{}, {"verbose": True}], ids=str)
def test_reduce_on_plateau_is_built_and_reduces(options):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    block = {"type": "reduce_on_plateau", "mode": "max", "factor": 0.5, "patience": 0, "min_lr": 0.2, **options}
    scheduler = LearningRateScheduler.from_params(Params(block), optimizer=optimizer)
    rates = []
    for accuracy in (0.5, 0.6, 0.6, 0.6, 0.6):
        scheduler.step(accuracy)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == [1.0, 1.0, 0.5, 0.25, 0.2]
