"""How `torch.onnx.export` translates the library's operators, which ONNX does not know."""

from collections.abc import Callable
from typing import Any

import torch

# No row is longer: float32 could not even count its positions.
GREATEST_LENGTH = 2**24


def register_decomposition(name: str, decomposition: Callable[..., Any]) -> None:
    """
    Let `torch.onnx.export` put `decomposition`, which calls PyTorch's own operators only, in place of the library's
    operator `name`. Both take the same arguments.

    The exporter takes from PyTorch's table whatever it cannot translate. Compilers take only what they list by name,
    so they go on to call the operator. But for tensors of unknown sizes PyTorch would simulate the operator by its
    decomposition, which costs time, rather than by what `register_fake` says, were it not in the second table too.
    """
    operator = getattr(torch.ops.regattn_allennlp, name).default
    torch._decomp.decomposition_table[operator] = decomposition
    torch._decomp.meta_table[operator] = operator


def at_most(length: int) -> int:
    """
    The length of rows, or a bound of it if it is unknown: a graph for all lengths has one number of steps, and what
    is enough for the longest row is enough for all.
    """
    return length if isinstance(length, int) else GREATEST_LENGTH
