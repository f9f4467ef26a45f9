from torch import Tensor

from regattn_allennlp.operators.functions import overridable
from regattn_allennlp.operators.rows import check_dim


@overridable
def support_size(weights: Tensor, dim: int = -1) -> Tensor:
    """
    How many of the weights along `dim` are not 0: 2 of (0.7, 0.3, 0). Shape: that of `weights` without `dim`, dtype
    int64. NaN is not 0.
    """
    if not isinstance(weights, Tensor):
        raise TypeError(f"weights must be a torch.Tensor, but is of type {type(weights).__name__}")
    return (weights != 0).sum(check_dim(dim))
