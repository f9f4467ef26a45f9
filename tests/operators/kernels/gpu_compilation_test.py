"""The kernels for the GPU compile, for GPUs of several generations: that needs none."""

import importlib
import inspect

import pytest

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")

# Small tiles: longer ones take longer to compile.
CONSTANTS = {"ROWS": 2, "BLOCK": 32, "FEW": 8, "NUM_BUCKETS": 5, "LONG": False, "BUCKET": 1}


every_gpu = pytest.mark.parametrize(
    "capability, dtype, with_mask, with_numbers, packed",
    [(80, "fp32", True, True, False), (90, "bf16", False, False, True), (90, "fp64", True, False, False)],
)


def kernel(module, name):
    """A kernel of one of the modules, which the tests in Triton's interpreter import anew."""
    return getattr(importlib.import_module(f"regattn_allennlp.operators.kernels.{module}"), f"_{name}_kernel")


def parameter_types(kernel, dtype, with_mask, with_numbers, packed):
    compute_dtype = "fp64" if dtype == "fp64" else "fp32"
    known = dict.fromkeys(["num_copies", "num_rows", "length"], "i32")
    known |= dict.fromkeys(["inverse_gamma", "lam", "alpha"], "fp64")
    known |= dict.fromkeys(["scores", "weights", "vector", "product", "gradient"], f"*{dtype}")
    known |= dict.fromkeys(["blocks", "few", "counts", "nums_dropped"], "*i32")
    known |= dict.fromkeys(["thresholds", "maxima"], f"*{compute_dtype}")
    if with_mask:
        known["mask"] = "*i1"
    if with_numbers:
        known |= dict.fromkeys(["lams", "alphas", "sums"], f"*{compute_dtype}")
    if packed:
        known |= {"offsets": "*i64", "buckets": "*i32"}
    return {name: known.get(name, "constexpr") for name in kernel.arg_names}


def check_compilation(kernel, capability, dtype, with_mask, with_numbers, packed, **constants):
    types = parameter_types(kernel, dtype, with_mask, with_numbers, packed)
    constants = CONSTANTS | {"DTYPE": tl.float64 if dtype == "fp64" else tl.float32} | constants
    constants = {key: constants.get(key) for key in kernel.arg_names if types[key] == "constexpr"}
    if "constexprs" in inspect.signature(triton.compiler.ASTSource).parameters:
        source = triton.compiler.ASTSource(
            fn=kernel,
            signature=types,
            constexprs={(k,): constants[key] for k, key in enumerate(kernel.arg_names) if key in constants},
            attrs={(k,): [["tt.divisibility", 16]] for k, key in enumerate(kernel.arg_names) if types[key][0] == "*"},
        )
    else:  # Triton 3.2, which comes with PyTorch 2.6
        signature = {key: kind for key, kind in types.items() if key not in constants}
        source = triton.compiler.ASTSource(fn=kernel, signature=signature, constants=constants)
    target = triton.backends.compiler.GPUTarget("cuda", capability, 32)
    options = {"num_warps": 1, "enable_fp_fusion": False}
    compiled = triton.compile(source, target=target, options=options)
    assert compiled.asm["cubin"]
    assert compiled.metadata.shared <= 48 * 1024  # what every GPU has


@pytest.fixture(autouse=True)
def nothing_compiled_before(monkeypatch, tmp_path):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


@every_gpu
@pytest.mark.parametrize("name", ["screen", "fuse_few", "fuse_many", "oscarmax", "block_jacobian"])
def test_kernels_compile(name, capability, dtype, with_mask, with_numbers, packed):
    constants = {"fuse_few": {"ROWS": 32, "BUCKET": -1}, "fuse_many": {"BLOCK": 128}}.get(name, {})
    check_compilation(kernel("gpu", name), capability, dtype, with_mask, with_numbers, packed, **constants)


@every_gpu
@pytest.mark.parametrize("is_long", [False, True])
@pytest.mark.parametrize("method", ["softmax", "linear", "squares", "powers", "any", "roots", "square", "norm"])
def test_kernels_of_every_method_compile(method, is_long, capability, dtype, with_mask, with_numbers, packed):
    constants = {"METHOD": method, "LONG": is_long, "ROWS": 1 if is_long else 2}
    if method in ("any", "roots"):
        constants["DTYPE"] = tl.float64
    else:
        jacobian = kernel("gpu_simplex", "simplex_jacobian")
        check_compilation(jacobian, capability, dtype, with_mask, with_numbers, packed, **constants)
    solver = kernel("gpu_simplex", "simplex")
    check_compilation(solver, capability, dtype, with_mask, with_numbers, packed, **constants)


@every_gpu
@pytest.mark.parametrize("is_long", [False, True])
def test_the_kernel_of_the_gradient_by_alpha_compiles(is_long, capability, dtype, with_mask, with_numbers, packed):
    constants = {"LONG": is_long, "ROWS": 1 if is_long else 2}
    solver = kernel("gpu_simplex", "alpha_gradient")
    check_compilation(solver, capability, dtype, with_mask, True, packed, **constants)


def test_the_kernel_that_fills_buckets_compiles():
    for capability in (80, 90):
        check_compilation(kernel("gpu_tiles", "bucket"), capability, "fp32", False, False, True)
