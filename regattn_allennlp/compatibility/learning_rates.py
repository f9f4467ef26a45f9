"""Schedulers of the learning rate and of the momentum."""

import functools
import inspect
import logging
from typing import Any

from regattn_allennlp.compatibility.mend import mend

logger = logging.getLogger(__name__)


@mend(
    "allennlp.training.learning_rate_schedulers.pytorch_lr_schedulers",
    puts_back="The learning rate scheduler `reduce_on_plateau`",
    versions="torch>=2.7",
    test="tests/compatibility/learning_rates_test.py::test_reduce_on_plateau_is_built_and_reduces",
)
def build_reduce_on_plateau_without_verbose(schedulers: Any) -> None:
    import torch

    scheduler = schedulers.ReduceOnPlateauLearningRateScheduler
    initialize = scheduler.__init__
    signature = inspect.signature(initialize)

    @functools.wraps(initialize)  # AllenNLP reads the arguments of a config from this signature
    def initialize_without_verbose(*args: Any, **kwargs: Any) -> None:
        arguments = signature.bind(*args, **kwargs).arguments
        itself = arguments.pop("self")
        if arguments.pop("verbose", False):
            logger.warning("PyTorch's ReduceLROnPlateau has no `verbose` any more. Metrics have the learning rate.")
        super(scheduler, itself).__init__(torch.optim.lr_scheduler.ReduceLROnPlateau(**arguments))

    scheduler.__init__ = initialize_without_verbose
