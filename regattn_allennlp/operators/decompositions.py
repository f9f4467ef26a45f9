"""How `torch.onnx.export` translates the library's operators, which ONNX does not know."""

import sys
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
    so they go on to call the operator (see `keep_in_compiled_graphs`). But for tensors of unknown sizes PyTorch would
    simulate the operator by its decomposition, which costs time, rather than by what `register_fake` says, were it not
    in the second table too.
    """
    operator = getattr(torch.ops.regattn_allennlp, name).default
    torch._decomp.decomposition_table[operator] = decomposition
    torch._decomp.meta_table[operator] = operator


def keep_in_compiled_graphs(operator: torch._ops.OpOverload) -> None:
    """
    Let Inductor call the library's operator although it has a decomposition. By itself it does so too, but not where
    the environment has CI set, as GitHub's runners have: there it takes that for a mistake within PyTorch.

    To be called whenever a compiler traces the operator: Inductor takes long to import, and is by then.
    """
    inductor: Any = sys.modules.get("torch._inductor.lowering")
    if inductor is not None and operator not in inductor.lowerings:
        inductor.make_fallback(operator, override_decomp=True)


def at_most(length: int) -> int:
    """
    The length of rows, or a bound of it if it is unknown: a graph for all lengths has one number of steps, and what
    is enough for the longest row is enough for all.
    """
    return length if isinstance(length, int) else GREATEST_LENGTH
