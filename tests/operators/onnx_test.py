"""`torch.onnx.export` of every operator, run by ONNX Runtime; and that compilers go on to call the solvers."""

import collections
import io
import math
import subprocess
import sys

import pytest
import torch
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func
from torch._inductor.utils import run_and_get_code
from torch.export import Dim
from torch.testing import assert_close

from regattn_allennlp import (
    ConstrainedSparsemax,
    Entmax,
    Fusedmax,
    Normmax,
    Oscarmax,
    RegularizedMax,
    Softmax,
    Sparsemax,
    SquaredPNormMax,
    TopKSparsemax,
    entmax,
    fusedmax,
    normmax,
    oscarmax,
    softmax,
    sparsemax,
    squared_p_norm_max,
)
from tests.operators.common import random_mask, random_scores
from tests.operators.differentiation_test import needs_a_compiler

onnxruntime = pytest.importorskip("onnxruntime")  # not needed by the operators, nor where only they are tested

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-12, torch.float16: 1e-3}

# The row's length is the last size.
SHAPES = (3, 7), (1, 1), (4, 1), (2, 2), (5, 40)


class Functions(torch.nn.Module):
    """Operators as functions, with what is given. The two others export many steps, which takes long."""

    def __init__(self, **arguments):
        super().__init__()
        self.arguments = arguments

    def forward(self, scores, mask=None, gamma=1.0, lam=0.25):
        arguments = {"mask": mask, "gamma": gamma, **self.arguments}
        return (
            softmax(scores, **arguments),
            sparsemax(scores, **arguments),
            fusedmax(scores, lam=lam, **arguments),
            oscarmax(scores, lam=lam, **arguments),
            entmax(scores, **arguments),
        )


def all_dynamic(*tensors):
    return tuple(dict.fromkeys(range(tensor.dim()), Dim.DYNAMIC) for tensor in tensors)


def session_of(onnx_program):
    file = io.BytesIO()
    onnx_program.save(file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])


def export(module, *arguments, dynamic_shapes=None):
    """As a user does: nothing but the module, an example and, where all sizes are to be free, which are."""
    dynamic_shapes = dynamic_shapes or all_dynamic(*arguments)
    return session_of(
        torch.onnx.export(module.eval(), arguments, dynamic_shapes=dynamic_shapes, dynamo=True, verbose=False)
    )


def run(session, *arguments):
    inputs = {value.name: tensor.numpy() for value, tensor in zip(session.get_inputs(), arguments, strict=True)}
    return tuple(torch.from_numpy(output) for output in session.run(None, inputs))


def check(module, session, *arguments):
    with torch.no_grad():
        expected = module(*arguments)
    expected = expected if isinstance(expected, tuple) else (expected,)
    tolerance = TOLERANCE[arguments[0].dtype]
    assert_close(run(session, *arguments), expected, rtol=0, atol=tolerance, equal_nan=True)


def varied(*shape, seed=0):
    """Scores and a mask: noise or ties, half of the rows with -inf in them, some with nothing at all."""
    scores = 2 * random_scores(*shape, seed=seed, dtype=torch.float32)
    scores = scores.round() if seed % 2 else scores
    mask = random_mask(*shape, seed=seed + 1)
    scores[::2].masked_fill_(~random_mask(*scores[::2].shape, seed=seed + 2), -math.inf)
    mask[1::3] = False
    return scores, mask


MODULES = {
    "softmax": lambda: Softmax(gamma=0.7),
    "sparsemax": Sparsemax,
    "fusedmax": Fusedmax,
    "fusedmax, much": lambda: Fusedmax(gamma=0.3, lam=2.0),
    "fusedmax, learned": lambda: Fusedmax(gamma=0.8, learn_gamma=True, learn_lam=True),
    "oscarmax": Oscarmax,
    "oscarmax, learned": lambda: Oscarmax(gamma=0.8, lam=0.05, learn_gamma=True, learn_lam=True),
    "squared_p_norm_max": lambda: SquaredPNormMax(exponent=1.3, learn_gamma=True),
    "entmax": Entmax,
    "entmax 3": lambda: Entmax(alpha=3.0),
    "entmax, learned": lambda: Entmax(learn_gamma=True, learn_alpha=True),
    "normmax": lambda: Normmax(exponent=1.7, learn_gamma=True),
    "constrained_sparsemax": lambda: ConstrainedSparsemax(gamma=0.7, upper=0.3),
    "constrained_sparsemax, learned": lambda: ConstrainedSparsemax(upper=torch.tensor(0.4), learn_gamma=True),
    "top_k_sparsemax": lambda: TopKSparsemax(gamma=2.0, top_k=3),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_with_a_mask(name):
    module = MODULES[name]()
    session = export(module, *varied(3, 7))
    for shape in SHAPES:
        for seed in range(4):
            check(module, session, *varied(*shape, seed=seed))

    # NaN, and infinity, make their own row NaN, where it is not masked.
    scores, mask = varied(6, 5)
    mask[:3, 1:4] = True
    scores[0, 1] = math.nan
    scores[2, 3] = math.inf
    check(module, session, scores, mask)
    (weights,) = run(session, scores, mask)
    assert weights[[0, 2]].isnan().any(-1).all() and weights[[1, 3, 4, 5]].isfinite().all()


def test_functions_along_another_dimension_without_a_mask():
    module = Functions(dim=1)
    session = export(module, random_scores(1, 5, 1, dtype=torch.float32))
    for shape in (2, 5, 3), (1, 1, 1), (4, 2, 1), (2, 40, 3):
        check(module, session, varied(*shape)[0])


def test_functions_of_one_row():
    session = export(Functions(), random_scores(4, dtype=torch.float32))
    for length in 1, 2, 40:
        check(Functions(), session, random_scores(length, dtype=torch.float32))


def test_gamma_and_lam_may_be_inputs():
    def arguments(batch, length, seed=0):
        scores = random_scores(batch, 4, length, length, seed=seed, dtype=torch.float32)
        gamma, lam = 0.1 + torch.rand(4, 1, 1), torch.tensor([0.0, 0.1, 0.5, 3.0]).view(4, 1, 1)
        return scores, random_mask(batch, 1, 1, length, seed=seed), gamma, lam

    sizes = dict.fromkeys([0, 2, 3], Dim.DYNAMIC), dict.fromkeys([0, 3], Dim.DYNAMIC), None, None
    session = export(Functions(), *arguments(2, 5), dynamic_shapes=sizes)
    for batch, length in (2, 5), (1, 2), (3, 17):
        check(Functions(), session, *arguments(batch, length, seed=batch))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_other_dtypes(dtype):
    # The exporter makes float32 of numbers. Those in `Functions` are the same in it.
    session = export(Functions(), random_scores(3, 7, dtype=dtype))
    for shape in SHAPES:
        check(Functions(), session, random_scores(*shape, dtype=dtype))


class Attention(torch.nn.Module):
    def __init__(self, operator):
        super().__init__()
        self.operator = operator
        self.query, self.key, self.value = (torch.nn.Linear(8, 8) for _ in range(3))

    def forward(self, words, is_word):
        queries, keys, values = (
            linear(words).unflatten(-1, (2, 4)).transpose(1, 2) for linear in (self.query, self.key, self.value)
        )
        weights = self.operator(queries @ keys.transpose(-1, -2) / 2, is_word[:, None, None, :])
        return (weights @ values).transpose(1, 2).flatten(-2)


@pytest.mark.parametrize("name", ["sparsemax", "fusedmax"])
def test_self_attention(name):
    torch.manual_seed(0)
    module = Attention(RegularizedMax.by_name(name)(learn_gamma=True)).eval()

    def arguments(batch, length):
        return random_scores(batch, length, 8, dtype=torch.float32), random_mask(batch, length)

    session = export(module, *arguments(2, 5), dynamic_shapes=(dict.fromkeys([0, 1], Dim.DYNAMIC),) * 2)
    for shape in (2, 5), (1, 1), (3, 40):
        check(module, session, *arguments(*shape))


# What the library has an operator for.
SOLVERS = {
    "sparsemax": sparsemax,
    "fusedmax": fusedmax,
    "oscarmax": oscarmax,
    "squared_p_norm_max": squared_p_norm_max,
    "normmax": normmax,
    "entmax": lambda scores: entmax(scores, alpha=1.2),
}


def operators_called(graph):
    """How often a graph calls each of the library's operators."""
    targets = (str(node.target) for node in graph.nodes)
    return collections.Counter(target.split(".")[1] for target in targets if target.startswith("regattn_allennlp."))


class Solvers(torch.nn.Module):
    def forward(self, scores):
        return tuple(solver(scores) for solver in SOLVERS.values())


def test_an_exported_program_has_the_operators_and_is_exported_further():
    scores = random_scores(3, 7, dtype=torch.float32)
    program = torch.export.export(Solvers(), (scores,), dynamic_shapes=all_dynamic(scores))
    assert operators_called(program.graph) == dict.fromkeys(SOLVERS, 1)
    decomposed = program.run_decompositions()
    assert operators_called(decomposed.graph) == dict.fromkeys(SOLVERS, 1)
    session = session_of(torch.onnx.export(decomposed, dynamo=True, verbose=False))
    check(Solvers(), session, random_scores(5, 12, dtype=torch.float32))


@pytest.fixture
def no_decomposition(monkeypatch):
    def fail(*_):
        raise AssertionError("decomposed")

    for name in SOLVERS:
        operator = getattr(torch.ops.regattn_allennlp, name).default
        monkeypatch.setitem(torch._decomp.decomposition_table, operator, fail)
    torch._dynamo.reset()


@pytest.mark.parametrize("name", SOLVERS)
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_code_calls_the_operators(no_decomposition, name, dynamic):
    calls = []

    def compiler(module, _):
        calls.append(operators_called(module.graph))
        return make_boxed_func(module.forward)

    backend = aot_autograd(fw_compiler=compiler)
    scores = random_scores(3, 7, dtype=torch.float32).requires_grad_()
    torch.compile(SOLVERS[name], backend=backend, fullgraph=True, dynamic=dynamic)(scores).square().sum().backward()
    forward, backward = calls
    assert forward == {name: 1}
    assert backward == ({"jacobian": 1} if name in ("sparsemax", "fusedmax", "oscarmax") else {})


@needs_a_compiler
@pytest.mark.parametrize("name", ["fusedmax", "entmax"])
def test_inductors_code_calls_the_operators(no_decomposition, name):
    compiled = torch.compile(SOLVERS[name], fullgraph=True, dynamic=True)
    weights, (code,) = run_and_get_code(compiled, random_scores(3, 7, dtype=torch.float32))
    assert f"torch.ops.regattn_allennlp.{name}.default(" in code
    assert_close(weights, SOLVERS[name](random_scores(3, 7, dtype=torch.float32)))


def test_the_package_does_not_import_what_only_the_export_needs():
    program = (
        "import sys, regattn_allennlp; print([name for name in sys.modules if name.endswith(('onnx', '.plain'))])"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() in ("[]", "['torch._C._onnx']")
