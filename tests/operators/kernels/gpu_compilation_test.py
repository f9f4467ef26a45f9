"""The kernels for the GPU compile, for GPUs of several generations: that needs none."""

import inspect

import pytest

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")

# Small tiles: longer ones take longer to compile.
CONSTANTS = {"ROWS": 2, "BLOCK": 32, "SMALL": 16, "FEW": 8, "mask": None, "lams": None}


@pytest.fixture(scope="module")
def gpu():
    from regattn_allennlp.operators.kernels import gpu

    return gpu


def parameter_types(kernel, dtype, with_mask, with_lams):
    compute_dtype = "fp64" if dtype == "fp64" else "fp32"
    known = {"num_rows": "i32", "length": "i32", "inverse_gamma": "fp64", "lam": "fp64"}
    known |= dict.fromkeys(["scores", "weights", "upstream", "gradient"], f"*{dtype}")
    known |= dict.fromkeys(["blocks", "few", "counts", "nums_dropped"], "*i32")
    known |= dict.fromkeys(["thresholds", "maxima"], f"*{compute_dtype}")
    if with_mask:
        known["mask"] = "*i1"
    if with_lams:
        known["lams"] = f"*{compute_dtype}"
    return {name: known.get(name, "constexpr") for name in kernel.arg_names}


@pytest.mark.parametrize(
    "capability, dtype, with_mask, with_lams",
    [(80, "fp32", True, True), (90, "bf16", False, False), (90, "fp64", True, False)],
)
@pytest.mark.parametrize(
    "name",
    ["sparsemax", "screen", "fuse_few", "fuse_many", "oscarmax", "support_jacobian", "block_jacobian"],
)
def test_kernels_compile(gpu, name, capability, dtype, with_mask, with_lams, monkeypatch, tmp_path):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = getattr(gpu, f"_{name}_kernel")
    types = parameter_types(kernel, dtype, with_mask, with_lams)
    constants = CONSTANTS | {"DTYPE": tl.float64 if dtype == "fp64" else tl.float32}
    if name == "fuse_few":
        constants["ROWS"] = 32
    constants = {key: constants[key] for key in kernel.arg_names if types[key] == "constexpr"}
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
