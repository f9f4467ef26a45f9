"""
The row solvers and their Jacobians as operators of PyTorch's library, `torch.ops.regattn_allennlp.*`, over matrices of
dense or packed rows (see `rows`). What they compute, `kernels` says.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from regattn_allennlp.operators.decompositions import keep_in_compiled_graphs, register_decomposition
from regattn_allennlp.operators.functions import apply_to_all_rows

SCORES = "Tensor scores, Tensor? mask, float gamma"
SCHEMAS = {
    "sparsemax": f"({SCORES}, Tensor? offsets=None) -> Tensor",
    "fusedmax": f"({SCORES}, float lam, Tensor? lams, Tensor? offsets=None) -> (Tensor, Tensor)",
    "oscarmax": f"({SCORES}, float lam, Tensor? lams, Tensor? offsets=None) -> (Tensor, Tensor)",
    "jacobian": "(Tensor vector, Tensor blocks, float gamma, Tensor? offsets=None) -> Tensor",
    "entmax": f"({SCORES}, float alpha, Tensor? alphas, bool may_exceed_2, Tensor? offsets=None) -> Tensor",
    "entmax_jacobian": "(Tensor vector, Tensor weights, float alpha, Tensor? alphas, Tensor? offsets=None) -> Tensor",
    "normmax": f"({SCORES}, float exponent, Tensor? offsets=None) -> Tensor",
    "normmax_jacobian": "(Tensor vector, Tensor weights, float exponent, Tensor? offsets=None) -> Tensor",
    "squared_p_norm_max": f"({SCORES}, float exponent, Tensor? offsets=None) -> Tensor",
    "squared_p_norm_jacobian": "(Tensor vector, Tensor weights, float exponent, Tensor? offsets=None) -> Tensor",
}


# Imported when first needed: compilers take long to import.


@functools.cache
def _gpu_kernel(name: str) -> Callable[..., Any] | None:
    try:
        from regattn_allennlp.operators.kernels import gpu
    except ImportError:  # there is no Triton for this platform
        return None
    return getattr(gpu, f"{name}_rows", None)


@functools.cache
def _cpu_kernel(name: str) -> Callable[..., Any]:
    from regattn_allennlp.operators.kernels import cpu

    return getattr(cpu, f"{name}_rows")


def has_kernel(name: str, rows: Tensor) -> bool:
    """Whether the device of `rows` has a kernel of this name itself."""
    return rows.device.type == "cpu" or (rows.is_cuda and _gpu_kernel(name) is not None)


def _implementation(name: str) -> Callable[..., Any]:
    def solve(rows: Tensor, *arguments: Any) -> Any:
        # The CPU's kernels serve every other device too, by way of a copy.
        kernel = (_gpu_kernel(name) if rows.is_cuda else None) or _cpu_kernel(name)
        return kernel(rows.contiguous(), *arguments)

    return solve


def _jacobian(vector: Tensor, blocks: Tensor, *arguments: Any) -> Tensor:
    name = "support_jacobian" if blocks.is_floating_point() else "block_jacobian"
    return _implementation(name)(vector, blocks, *arguments)


IMPLEMENTATIONS = {name: _jacobian if name == "jacobian" else _implementation(name) for name in SCHEMAS}

# Without a place in the library: elsewhere these are made of PyTorch's own operations.
for _name in ("constrained_sparsemax", "entmax_alpha_gradient"):
    IMPLEMENTATIONS[_name] = _implementation(_name)

library = torch.library.Library("regattn_allennlp", "DEF")


def _define(name: str) -> None:
    num_outputs = SCHEMAS[name].rpartition("->")[2].count("Tensor")

    def fake(rows: Tensor, *_: Any) -> Any:
        keep_in_compiled_graphs(OPERATORS[name])
        like_rows = rows.new_empty(rows.shape)
        return like_rows if num_outputs == 1 else (like_rows, rows.new_empty(rows.shape, dtype=torch.int32))

    def over_batch(info: Any, in_dims: tuple, *arguments: Any) -> tuple:
        return apply_to_all_rows(OPERATORS[name], info, in_dims, arguments)

    library.define(f"{name}{SCHEMAS[name]}")
    library.impl(name, IMPLEMENTATIONS[name], "CompositeExplicitAutograd")
    torch.library.register_fake(f"regattn_allennlp::{name}", fake, lib=library)
    torch.library.register_vmap(f"regattn_allennlp::{name}", over_batch, lib=library)


def _plain_solver(name: str) -> Callable:
    def solver(*arguments: Any) -> Any:
        from regattn_allennlp.operators.kernels import plain

        return getattr(plain, f"{name}_rows")(*arguments)

    return solver


for _name in SCHEMAS:
    _define(_name)

OPERATORS = {name: getattr(torch.ops.regattn_allennlp, name).default for name in SCHEMAS}

for _name in ("sparsemax", "fusedmax", "oscarmax", "entmax", "squared_p_norm_max", "normmax"):
    register_decomposition(_name, _plain_solver(_name))
