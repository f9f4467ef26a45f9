"""Mixed precision, by PyTorch's names of today."""

import functools
from types import SimpleNamespace
from typing import Any

from regattn_allennlp.compatibility.mend import mend

TEST = "tests/compatibility/mixed_precision_test.py::test_training_warns_of_nothing_that_is_deprecated"


@mend(
    "allennlp.training.gradient_descent_trainer",
    puts_back="Training without a warning that `torch.cuda.amp` is deprecated, which came in every epoch",
    versions="torch>=2.4",
    test=TEST,
)
def use_mixed_precision_by_its_new_name(trainers: Any) -> None:
    import torch

    trainers.amp = SimpleNamespace(
        autocast=lambda enabled: torch.autocast("cuda", enabled=enabled),
        GradScaler=functools.partial(torch.amp.GradScaler, "cuda"),
    )


@mend(
    "allennlp.nn.parallel.ddp_accelerator",
    puts_back="The same for distributed training with `use_amp`",
    versions="torch>=2.4",
    test="tests/compatibility/mixed_precision_test.py::test_gradients_of_distributed_training_are_scaled",
)
def use_scaler_by_its_new_name(accelerators: Any) -> None:
    import torch

    accelerators.amp = SimpleNamespace(GradScaler=functools.partial(torch.amp.GradScaler, "cuda"))
