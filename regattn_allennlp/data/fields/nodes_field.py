from collections.abc import Iterator

import numpy as np
import torch
from allennlp.data.fields import SequenceField, TensorField
from allennlp.nn.util import batch_tensor_dicts


class NodesField(SequenceField[dict[str, torch.Tensor]]):
    """
    The features of a graph's nodes, in their order: what an `AdjacencyField` has edges between. A batch has
    "features", of shape (batch_size, num_nodes, dim), and "mask", of shape (batch_size, num_nodes) and dtype bool,
    which tells nodes from padding.

    It keeps an array, not a tensor for each node: tensors on their way between processes are an open file each.

    # Parameters

    features : `np.ndarray`
        Shape (num_nodes, dim), float32.
    """

    __slots__ = ["features"]

    def __init__(self, features: np.ndarray) -> None:
        self.features = features

    def sequence_length(self) -> int:
        return len(self.features)

    def get_padding_lengths(self) -> dict[str, int]:
        return {f"dimension_{number}": length for number, length in enumerate(self.features.shape)}

    def as_tensor(self, padding_lengths: dict[str, int]) -> dict[str, torch.Tensor]:
        return {
            "features": TensorField(self.features).as_tensor(padding_lengths),
            "mask": torch.arange(padding_lengths["dimension_0"]) < len(self.features),
        }

    def batch_tensors(self, tensor_list: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:  # type: ignore[override]
        return batch_tensor_dicts(tensor_list)

    def empty_field(self) -> "NodesField":
        return NodesField(np.empty((0, 0), dtype=np.float32))

    def __len__(self) -> int:
        return len(self.features)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.features)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NodesField) and np.array_equal(self.features, other.features)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.features[index]

    def __str__(self) -> str:
        return f"NodesField with shape: {self.features.shape}."
