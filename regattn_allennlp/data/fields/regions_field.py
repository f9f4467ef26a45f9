from typing import Union

import numpy as np
import torch
from allennlp.data import Field
from allennlp.data.fields import TensorField

from regattn_allennlp.data.region_features import StoredFeatures


class RegionsField(Field[torch.Tensor]):
    """
    The features of an image's regions. Those in a file are read when a batch is made, and not kept: instances that
    wait in memory, or on their way between processes, are small.

    # Parameters

    features : `Union[np.ndarray, StoredFeatures]`
        Shape (num_regions, dim), float32.
    """

    __slots__ = ["features"]

    def __init__(self, features: Union[np.ndarray, StoredFeatures]) -> None:
        self.features = features

    def array(self) -> np.ndarray:
        return self.features.read() if isinstance(self.features, StoredFeatures) else self.features

    def get_padding_lengths(self) -> dict[str, int]:
        return {f"dimension_{number}": length for number, length in enumerate(self.features.shape)}

    def as_tensor(self, padding_lengths: dict[str, int]) -> torch.Tensor:
        return TensorField(self.array()).as_tensor(padding_lengths)

    def empty_field(self) -> "RegionsField":
        return RegionsField(np.empty((0, 0), dtype=np.float32))

    def __len__(self) -> int:
        return self.features.shape[0]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RegionsField) and np.array_equal(self.array(), other.array())

    def __str__(self) -> str:
        return f"RegionsField with shape: {self.features.shape}."
