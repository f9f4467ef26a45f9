from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any


class InterruptedEpoch:
    """
    A data loader in the epoch that a training was interrupted in: at the batch where it was, it draws on from where
    the checkpoint was written.

    # Parameters

    data_loader : `DataLoader`
    num_batches : `int`
        How many batches were trained with.
    go_on : `Callable[[], None]`
        Called before the first batch after them is drawn.
    """

    def __init__(self, data_loader: Any, num_batches: int, go_on: Callable[[], None]) -> None:
        self._data_loader = data_loader
        self._num_batches = num_batches
        self._go_on = go_on

    def __len__(self) -> int:
        return len(self._data_loader)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self._data_loader)
        yield from islice(batches, self._num_batches)
        self._go_on()
        yield from batches

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data_loader, name)
