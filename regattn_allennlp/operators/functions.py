"""What the operators' `torch.autograd.Function`s share: forward mode that nests, vmap, hooks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


def nestable(jvp: Callable[..., Any]) -> Any:
    """
    Makes a Function's static method `jvp` of a function that takes the context, the saved tensors and the tangents.

        @nestable
        def jvp(ctx, saved, tangent):
            (output,) = saved
            return derivative(output) * tangent

    PyTorch calls `jvp` with forward mode switched off, so what an outer forward derivative makes of its result is 0
    (pytorch issue 197867). Here it is on, and the saved tensors come without their tangents of the level that `jvp`
    is called for, but with those of the outer ones.
    """

    def in_forward_mode(ctx: Any, *tangents: Any) -> Any:
        with forward_ad._set_fwd_grad_enabled(True):
            saved = [None if tensor is None else forward_ad.unpack_dual(tensor).primal for tensor in ctx.saved_tensors]
            return jvp(ctx, saved, *tangents)

    return staticmethod(in_forward_mode)


def batch_first(info: Any, in_dims: tuple, arguments: tuple) -> list:
    """For a rule of vmap: the arguments, each tensor with the batch as its first dimension."""
    return [
        argument
        if not isinstance(argument, Tensor)
        else argument.expand(info.batch_size, *argument.shape)
        if in_dim is None
        else argument.movedim(in_dim, 0)
        for argument, in_dim in zip(arguments, in_dims, strict=True)
    ]


def apply_to_all_rows(function: Callable[..., Any], info: Any, in_dims: tuple, arguments: tuple) -> tuple:
    """
    The rule of vmap for a function of matrices whose rows are problems, and of what is not a tensor: the rows of all
    matrices of the batch become those of one matrix.
    """
    matrices = [
        argument.flatten(0, 1).contiguous() if isinstance(argument, Tensor) else argument
        for argument in batch_first(info, in_dims, arguments)
    ]
    outputs = function(*matrices)
    if isinstance(outputs, Tensor):
        return outputs.unflatten(0, (info.batch_size, -1)), 0
    return tuple(output.unflatten(0, (info.batch_size, -1)) for output in outputs), (0,) * len(outputs)


@contextmanager
def without_saved_tensors_hooks() -> Iterator[None]:
    """
    Takes away the hooks of checkpointing, save_on_cpu and the like for a while. torch.func refuses to work under them,
    but what a solver saves for itself is not theirs.
    """
    hooks = []
    while (pair := torch._C._autograd._top_saved_tensors_default_hooks(True)) is not None:
        hooks.append(pair)
        torch._C._autograd._pop_saved_tensors_default_hooks()
    try:
        yield
    finally:
        for pair in reversed(hooks):
            torch._C._autograd._push_saved_tensors_default_hooks(*pair)
