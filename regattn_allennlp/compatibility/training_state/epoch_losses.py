from typing import ClassVar, Optional
from weakref import WeakKeyDictionary

import torch


class EpochLosses:
    """The sums of a model's losses in an epoch, with those before an interruption in its midst."""

    _of_models: ClassVar["WeakKeyDictionary[torch.nn.Module, EpochLosses]"] = WeakKeyDictionary()

    def __init__(self) -> None:
        self.before: tuple[float, float] = (0.0, 0.0)
        """The sums of the losses, and of those of regularization, of the batches before the interruption."""
        self.so_far: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def of(cls, model: torch.nn.Module) -> "EpochLosses":
        return cls._of_models.setdefault(model, cls())

    def add_those_before(
        self, total_loss: float, total_reg_loss: Optional[float], is_last: bool
    ) -> tuple[float, Optional[float]]:
        """
        Takes the sums since the interruption, which are of all processes where they are the last of the epoch, and
        returns those of the whole epoch.
        """
        from allennlp.nn.util import dist_reduce_sum

        before_loss, before_reg_loss = self.before
        if is_last:
            if self.before != (0.0, 0.0):
                before_loss, before_reg_loss = dist_reduce_sum(before_loss), dist_reduce_sum(before_reg_loss)
            self.before = (0.0, 0.0)
        total_loss += before_loss
        if total_reg_loss is not None:
            total_reg_loss += before_reg_loss
        self.so_far = (total_loss, total_reg_loss or 0.0)
        return total_loss, total_reg_loss
