from collections.abc import Iterable, Iterator
from typing import Any

import torch
from allennlp.common.util import lazy_groups_of
from allennlp.data import Batch, Instance
from allennlp.models import Model
from allennlp.nn.util import move_to_device


def outputs_in_batches(model: Model, instances: Iterable[Instance], batch_size: int) -> Iterator[dict[str, Any]]:
    """What the model's `forward` gives for each batch of the instances, in their order; without gradients."""
    device = next(model.parameters()).device
    for group in lazy_groups_of(instances, batch_size):
        batch = Batch(group)
        batch.index_instances(model.vocab)
        with torch.no_grad():
            output: dict[str, Any] = model(**move_to_device(batch.as_tensor_dict(), device))
        yield output
