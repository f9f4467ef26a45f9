import torch
from allennlp.common import FromParams
from allennlp.common.checks import ConfigurationError

from regattn_allennlp.modules.require_at_least import require_at_least


class Schedule(torch.nn.Module, FromParams):
    """
    A number that changes during training, batch by batch, and then stays:

        "kl_weight": {"initial": 0.0, "final": 1.0, "num_batches": 5000}
        "temperature": {"initial": 1.0, "final": 0.1, "num_batches": 5000, "exponential": true}

    How many batches there were is saved with the model's weights, so a training that goes on after an interruption
    goes on here too.

    # Parameters

    initial, final : `float`
        The number for the first batch, and for all from `num_batches` on.
    num_batches : `int`
        At least 1. With gradient accumulation each of the batches accumulated is one; with distributed training, each
        of a process's own.
    exponential : `bool`, optional (default = `False`)
        The number's logarithm changes evenly in the place of the number itself. Both ends must be above 0.

    # Raises

    `ConfigurationError` for a `num_batches` below 1, and for ends that have no logarithm.
    """

    def __init__(self, initial: float, final: float, num_batches: int, exponential: bool = False) -> None:
        super().__init__()
        require_at_least(1, num_batches, "num_batches")
        if exponential and not (initial > 0 and final > 0):
            raise ConfigurationError(
                f'"initial" and "final" of an exponential schedule must be above 0, but are {initial} and {final}'
            )
        self.initial = initial
        self.final = final
        self._num_batches = num_batches
        self._exponential = exponential
        self._batch: torch.Tensor
        self.register_buffer("_batch", torch.zeros((), dtype=torch.long))

    def next(self) -> torch.Tensor:
        """The present batch's number, a scalar in float64; in training, the next call is another batch's."""
        # Shape: ()
        progress = (self._batch.double() / self._num_batches).clamp(max=1.0)
        if self.training:
            self._batch += 1
        if self._exponential:
            return self.initial * torch.pow(self.final / self.initial, progress)
        return self.initial + (self.final - self.initial) * progress


def next_number(number: float | Schedule) -> float | torch.Tensor:
    """The present batch's, of what a config gives as a number or as a schedule."""
    return number.next() if isinstance(number, Schedule) else number


def ends(number: float | Schedule) -> tuple[float, float]:
    """Between these two the number always is."""
    return (number.initial, number.final) if isinstance(number, Schedule) else (number, number)
