from collections.abc import Iterator
from contextlib import contextmanager
from typing import Optional

import torch

from regattn_allennlp.modules.alignment_regularizer.alignment_regularizer import AlignmentRegularizer


class AlignmentObservation:
    """What the regularizers in a model observed while `observe_alignment` was open; to be asked after it is closed."""

    def __init__(self) -> None:
        self._observed: list[tuple[AlignmentRegularizer, tuple[torch.Tensor, torch.Tensor, torch.Tensor]]] = []

    def add(self, regularizer: AlignmentRegularizer) -> None:
        self._observed += [(regularizer, tensors) for tensors in regularizer.end_observation()]

    def losses(self) -> Optional[tuple[torch.Tensor, torch.Tensor]]:
        """
        The loss that belongs to the task's, weight * D, and D alone, without a gradient; both are scalars, summed over
        the layers, and over their applications if they are applied several times. `None` if there were none.
        """
        if not self._observed:
            return None
        losses, distances = [], []
        for regularizer, (queries, keys, mask) in self._observed:
            with torch.set_grad_enabled(torch.is_grad_enabled() and regularizer.weight > 0):
                distance = regularizer(queries, keys, mask)
            losses.append(regularizer.present_weight() * distance)
            distances.append(distance.detach())
        return torch.stack(losses).sum(), torch.stack(distances).sum()


@contextmanager
def observe_alignment(model: torch.nn.Module) -> Iterator[AlignmentObservation]:
    """
    Lets the `AlignmentRegularizer`s in a model observe what it does, for a training loop of one's own:

        with observe_alignment(model) as observation:
            loss = model(inputs)
        alignment = observation.losses()
        if alignment is not None:
            loss = loss + alignment[0]

    In training, one opening is one batch of the regularizers' warm-up.
    """
    regularizers = [module for module in model.modules() if isinstance(module, AlignmentRegularizer)]
    observation = AlignmentObservation()
    for regularizer in regularizers:
        regularizer.start_observation()
    try:
        yield observation
    finally:
        for regularizer in regularizers:
            observation.add(regularizer)
