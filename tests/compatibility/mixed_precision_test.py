import json
import warnings

import torch
from allennlp.nn.parallel import DdpWrappedModel

import regattn_allennlp.compatibility  # noqa: F401
from tests.conftest import PROJECT_ROOT, SMALL

CONFIG = PROJECT_ROOT / "training_configs" / "sample" / "sparsemax.jsonnet"


def test_training_warns_of_nothing_that_is_deprecated(allennlp, tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn("seen", FutureWarning, stacklevel=1)
        allennlp("train", CONFIG, "--serialization-dir", tmp_path, "--overrides", json.dumps(SMALL))
    deprecated = [str(one.message) for one in caught if issubclass(one.category, FutureWarning | DeprecationWarning)]
    assert deprecated == ["seen"]


def test_gradients_of_distributed_training_are_scaled():
    model = DdpWrappedModel(torch.nn.Linear(1, 1), local_rank=0, world_size=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        scaler = model.init_grad_scaler()
    assert isinstance(scaler, torch.amp.GradScaler)
    assert scaler._device == "cuda"
