"""The kernels for the GPU, as tests run them: on a GPU, or else on the CPU, in Triton's interpreter."""

import contextlib
import importlib
import sys
import types

import numpy as np
import pytest
import torch

triton = pytest.importorskip("triton")

MODULE = "regattn_allennlp.operators.kernels.gpu"
ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"


def scan_as_a_tree(self, inputs):
    """
    `associative_scan` in the interpreter, in as many steps as the length has bits. The interpreter's own takes a
    million calls of Python for these tests; and on a GPU, too, scans are trees: what is not associative shows.
    """
    results = [tensor.handle.data for tensor in inputs]
    length = results[0].shape[self.axis]
    distance = 1
    while distance < length:
        before = [np.roll(result, distance, self.axis) for result in results]
        arguments = [
            self.to_tensor(array, tensor.dtype)
            for arrays in (before, results)
            for array, tensor in zip(arrays, inputs, strict=True)
        ]
        combined = self.combine_fn.fn(*arguments)
        combined = [tensor.handle.data for tensor in (combined if isinstance(combined, tuple) else (combined,))]
        is_first = np.expand_dims(np.arange(length) < distance, 1 - self.axis)
        results = [np.where(is_first, old, new) for old, new in zip(results, combined, strict=True)]
        distance *= 2
    return [self.to_tensor(result, tensor.dtype) for result, tensor in zip(results, inputs, strict=True)]


def reduce_by_arrays(self, inputs):
    """`reduce` in the interpreter, an operation for all rows at once; see `scan_as_a_tree`."""
    tensors, axis = self.unravel(inputs, self.axis)
    results = [tensor.handle.data.take(0, axis) for tensor in tensors]
    for k in range(1, tensors[0].handle.data.shape[axis]):
        arrays = [*results, *(tensor.handle.data.take(k, axis) for tensor in tensors)]
        dtypes = [tensor.dtype for tensor in tensors] * 2
        combined = self.combine_fn.fn(*map(self.to_tensor, arrays, dtypes))
        combined = combined if isinstance(combined, tuple) else (combined,)
        results = [tensor.handle.data.reshape(results[0].shape) for tensor in combined]
    if self.keep_dims:
        results = [np.expand_dims(result, axis) for result in results]
    return [self.to_tensor(result, tensor.dtype) for result, tensor in zip(results, tensors, strict=True)]


@contextlib.contextmanager
def attributes_restored(*owners):
    before = [dict(vars(owner)) for owner in owners]
    try:
        yield
    finally:
        for owner, attributes in zip(owners, before, strict=True):
            for name in vars(owner).keys() - attributes.keys():
                delattr(owner, name)
            for name, value in attributes.items():
                if vars(owner)[name] is not value:
                    setattr(owner, name, value)


@contextlib.contextmanager
def kernels_that_run():
    """The module, imported anew for the interpreter where there is no GPU. No trace of that is left behind."""
    if ON_GPU:
        yield importlib.import_module(MODULE)
        return
    from triton import language
    from triton.language import core, math, standard
    from triton.runtime import interpreter

    if not hasattr(interpreter.InterpreterBuilder, "get_int1_ty"):
        pytest.skip(f"the interpreter of Triton {triton.__version__} does not know the kernels' operations")
    package = importlib.import_module(MODULE.rpartition(".")[0])
    # (Older Triton does not have all of them.)
    owners = (core, "tensor"), (core, "tensor_descriptor_base"), (core, "dtype"), (language, "condition")
    classes = [getattr(owner, name) for owner, name in owners if hasattr(owner, name)]
    with (
        attributes_restored(language, core, math, standard, *classes, package),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("TRITON_INTERPRET", "1")
        # Triton's own functions were made for a compiler when Triton was imported.
        for namespace in (language, standard):
            for name, function in list(vars(namespace).items()):
                if isinstance(function, triton.JITFunction):
                    setattr(namespace, name, interpreter.InterpretedFunction(function.fn))
        # Of a function adapted before it would be taken for granted that its module knows the interpreter.
        patch.setattr(interpreter.InterpretedFunction, "rewritten_fn", {}, raising=False)
        patch.setattr(interpreter.ScanOps, "generic_scan", scan_as_a_tree)
        patch.setattr(interpreter.ReduceOps, "generic_reduce", reduce_by_arrays)
        for name in [name for name in sys.modules if name.startswith(MODULE)]:
            patch.delitem(sys.modules, name)
        module = importlib.import_module(MODULE)
        # The interpreter adapts Triton's language at every call of a function, and not always takes it back.
        interpreter._patch_lang(module._cut.fn)
        interpreter._patch_lang(standard.sum.fn)
        patch.setattr(interpreter, "_patch_lang", lambda function: types.SimpleNamespace(restore=lambda: None))
        yield module
        for name in [name for name in sys.modules if name.startswith(MODULE)]:
            del sys.modules[name]
