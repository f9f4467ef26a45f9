"""How the operators fit in PyTorch: overrides, tracers, nested forward mode, vmap, hooks of saved tensors."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import handle_torch_function, has_torch_function

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


def overridable(function: AnyFunction) -> AnyFunction:
    """
    Lets arguments with a `__torch_function__` decide on what a call does, as PyTorch's own functions do. So
    torch.fx.symbolic_trace, whose arguments are no tensors, makes the call a single node.
    """

    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        given = (*arguments, *named.values())
        # A mode, such as a default device, also has a say: in the operations that the function is made of.
        if has_torch_function(given) and any(map(_decides, given)):
            return handle_torch_function(call, given, *arguments, **named)
        return function(*arguments, **named)

    return call  # type: ignore[return-value]


def _decides(argument: Any) -> bool:
    kind = type(argument)
    disabled = torch._C._disabled_torch_function_impl
    return kind not in (Tensor, torch.nn.Parameter) and getattr(kind, "__torch_function__", disabled) is not disabled


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
    """
    For a rule of vmap: the arguments, each tensor with the batch as its first dimension; but the last one, the offsets
    of packed rows, as it is.
    """
    *in_dims, in_dim_of_offsets = in_dims  # type: ignore[assignment]
    *arguments, offsets = arguments  # type: ignore[assignment]
    if in_dim_of_offsets is not None:
        raise ValueError("offsets must be the same for all of a batch of torch.vmap: in_dims must have None for them")
    batched = [
        argument
        if not isinstance(argument, Tensor)
        else argument.expand(info.batch_size, *argument.shape)
        if in_dim is None
        else argument.movedim(in_dim, 0)
        for argument, in_dim in zip(arguments, in_dims, strict=True)
    ]
    return [*batched, offsets]


def apply_to_all_rows(function: Callable[..., Any], info: Any, in_dims: tuple, arguments: tuple) -> tuple:
    """
    The rule of vmap for a function of matrices of rows, dense or packed, of what is not a tensor, and of offsets: the
    rows of all matrices of the batch become those of one matrix.
    """
    *batched, offsets = batch_first(info, in_dims, arguments)
    matrices = [
        argument.flatten(0, 1).contiguous() if isinstance(argument, Tensor) else argument for argument in batched
    ]
    outputs = function(*matrices, offsets)
    if isinstance(outputs, Tensor):
        return outputs.unflatten(0, (info.batch_size, -1)), 0
    return tuple(output.unflatten(0, (info.batch_size, -1)) for output in outputs), (0,) * len(outputs)


def is_compiling_a_transform() -> bool:
    """
    Whether torch.compile traces a transform of torch.func. There a Function or an operator of a library has no
    derivatives, or wrong ones: what has to be differentiated must be plain operations.
    """
    return torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()


def differentiable_solution(
    weights: Tensor,
    values: Tensor,
    slopes: Callable[[Tensor], Tensor],
    jacobian_product: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """
    The solution `weights`, which has no derivatives, as plain operations of `values`: steps of Newton's method for
    values - slopes(weights) = constant on the support. As they begin at the solution they change no number; but the
    first step's derivatives are right to the first order, and the second's to the third.

    # Parameters

    slopes : of the weights: the regularizer's, with derivatives by the weights and by the regularizer's parameters.
    jacobian_product : of the weights and a vector: the Jacobian of the weights by the values, times the vector.
    """
    values = values.where(weights != 0, 0)
    for _ in range(2):
        residual = values - slopes(weights)
        weights = weights + jacobian_product(weights, residual - residual.detach())
    return weights


def is_plain(tensor: Tensor) -> bool:
    """
    Whether what is done to the tensor is seen by reverse-mode autograd alone: no subclass, compiler, tracer, transform
    or derivative in forward mode has a say. Then code that PyTorch knows nothing of can be called with its numbers.
    """
    return (
        not torch.compiler.is_compiling()
        and type(tensor) in (Tensor, torch.nn.Parameter)
        and not tensor.is_meta
        and not torch.jit.is_tracing()
        and torch._C._len_torch_dispatch_stack() == 0
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._functorch.is_legacy_batchedtensor(tensor)  # of autograd.grad(is_grads_batched=True)
        and not tensor._is_zerotensor()  # which autograd makes of no derivative: it has no memory to be read
        and forward_ad._current_level < 0
    )


@contextmanager
def without_saved_tensors_hooks() -> Iterator[None]:
    """
    Takes away the hooks of checkpointing, save_on_cpu and the like for a while. torch.func refuses to work under them,
    but what a solver saves for itself is not theirs. Before PyTorch 2.8 they cannot be taken away: an error says so.
    """
    if not hasattr(torch._C._autograd, "_top_saved_tensors_default_hooks"):
        message = (
            "custom_max under saved-tensor hooks (checkpoint with use_reentrant=False, save_on_cpu) needs PyTorch 2.8 "
            f"or later, but this is {torch.__version__}"
        )
        with torch.autograd.graph.disable_saved_tensors_hooks(message):
            yield
        return
    hooks = []
    while (pair := torch._C._autograd._top_saved_tensors_default_hooks(True)) is not None:
        hooks.append(pair)
        torch._C._autograd._pop_saved_tensors_default_hooks()
    try:
        yield
    finally:
        for pair in reversed(hooks):
            torch._C._autograd._push_saved_tensors_default_hooks(*pair)
