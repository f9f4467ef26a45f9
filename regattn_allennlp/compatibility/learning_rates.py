"""Schedulers of the learning rate and of the momentum."""

import copy
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


@mend(
    "allennlp.training.learning_rate_schedulers.combined",
    puts_back="A training with the scheduler `combined` recovers with the learning rate that it had",
    versions="allennlp==2.10.1",
    test="tests/compatibility/recovery_test.py::test_a_killed_training_ends_with_the_numbers_of_an_uninterrupted_one",
)
def recover_combined_without_a_new_start(combined: Any) -> None:
    scheduler = combined.CombinedLearningRateScheduler
    load_state_dict = scheduler.load_state_dict

    @functools.wraps(load_state_dict)
    def load_state_dict_and_keep_the_optimizer(self: Any, state_dict: dict[str, Any]) -> None:
        # The scheduler of the epoch is built anew, and sets the optimizer, which was loaded before, to its start.
        before = [dict(group) for group in self.optimizer.param_groups]
        load_state_dict(self, state_dict)
        for group, fields in zip(self.optimizer.param_groups, before, strict=True):
            group.update(fields)

    scheduler.load_state_dict = load_state_dict_and_keep_the_optimizer


@mend(
    "allennlp.training.learning_rate_schedulers.slanted_triangular",
    puts_back="A training with `gradual_unfreezing` recovers with the layers unfrozen that were",
    versions="allennlp==2.10.1",
    test="tests/compatibility/recovery_test.py::test_a_killed_training_ends_with_the_numbers_of_an_uninterrupted_one",
)
def recover_unfrozen_layers(slanted_triangular: Any) -> None:
    scheduler = slanted_triangular.SlantedTriangular
    load_state_dict = scheduler.load_state_dict

    @functools.wraps(load_state_dict)
    def load_state_dict_and_unfreeze(self: Any, state_dict: dict[str, Any]) -> None:
        load_state_dict(self, copy.deepcopy(state_dict))
        if self.gradual_unfreezing:
            # The parameters know what is frozen, the state does not: the last step is done again.
            self.last_epoch -= 1
            self.step()
            load_state_dict(self, state_dict)

    scheduler.load_state_dict = load_state_dict_and_unfreeze
