"""Every operator, in every way in which PyTorch differentiates, transforms, compiles and casts."""

import shutil
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

from regattn_allennlp import RegularizedMax
from tests.operators.common import NAMES, build, every_operator, random_mask, random_scores

SHAPE = (2, 2, 5)
WITH_LAM = ["fusedmax", "oscarmax"]


def scores_and_mask() -> tuple[Tensor, Tensor]:
    mask = random_mask(*SHAPE, seed=1)
    mask[0, 0] = False  # a row with nothing in it
    return random_scores(*SHAPE, seed=2), mask


def scores() -> Tensor:
    return scores_and_mask()[0]


def apply(name: str, mask: Tensor | None = None) -> Callable[[Tensor], Tensor]:
    operator = build(name, 1.2, 0.15)
    return lambda scores: operator(scores, mask)


def regularization(*shape: int, near: float) -> Tensor:
    return (near * (1 + torch.arange(torch.Size(shape).numel(), dtype=torch.float64) / 7)).view(shape).requires_grad_()


def build_with(name: str, gamma: Tensor, lam: Tensor) -> RegularizedMax:
    arguments = {"lam": lam} if name in WITH_LAM else {}
    return RegularizedMax.by_name(name)(gamma, **arguments)


# Per row, per head (the second dimension) and for all.
shapes = pytest.mark.parametrize("shape", [(), (2, 1), (2, 2, 1)])


@every_operator
def test_derivatives_by_the_scores(name):
    scores, mask = scores_and_mask()
    scores.requires_grad_()
    assert gradcheck(apply(name, mask), scores, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(apply(name, mask), scores, check_fwd_over_rev=True, check_batched_grad=True)


@every_operator
@shapes
def test_derivatives_by_gamma_and_lam(name, shape):
    scores, mask = scores_and_mask()
    gamma, lam = regularization(*shape, near=1.1), regularization(*shape, near=0.12)

    def weights(scores: Tensor, gamma: Tensor, lam: Tensor) -> Tensor:
        return build_with(name, gamma, lam)(scores, mask)

    inputs = (scores.requires_grad_(), gamma, lam if name in WITH_LAM else lam.detach())
    assert gradcheck(weights, inputs, check_forward_ad=True)
    assert gradgradcheck(weights, inputs)


@every_operator
@shapes
def test_derivatives_of_the_value(name, shape):
    scores, mask = scores_and_mask()
    gamma, lam = regularization(*shape, near=1.1), regularization(*shape, near=0.12)

    def value(scores: Tensor, gamma: Tensor, lam: Tensor) -> Tensor:
        return build_with(name, gamma, lam).value(scores, mask)

    inputs = (scores.requires_grad_(), gamma, lam if name in WITH_LAM else lam.detach())
    assert gradcheck(value, inputs, check_forward_ad=True)
    assert gradgradcheck(value, inputs)


@every_operator
@shapes
def test_a_tensor_regularizes_each_row_as_the_number_in_it(name, shape):
    scores, mask = scores_and_mask()
    gamma, lam = regularization(*shape, near=1.1).detach(), regularization(*shape, near=0.12).detach()
    weights = build_with(name, gamma, lam)(scores, mask)
    values = build_with(name, gamma, lam).value(scores, mask)
    gammas, lams = gamma.expand(2, 2, 1), lam.expand(2, 2, 1)
    for i in range(2):
        for j in range(2):
            with_numbers = build(name, gammas[i, j].item(), lams[i, j].item())
            torch.testing.assert_close(weights[i, j], with_numbers(scores[i, j], mask[i, j]))
            torch.testing.assert_close(values[i, j], with_numbers.value(scores[i, j], mask[i, j]))


@pytest.mark.parametrize("name", WITH_LAM)
def test_a_lam_of_zero_in_a_tensor_is_sparsemax(name):
    row = torch.tensor([1.0, 1.0, 0.7, 0.7, -3.0], dtype=torch.float64, requires_grad=True)
    two_rows = torch.stack([row, row])
    weights = RegularizedMax.by_name(name)(lam=torch.tensor([[0.0], [0.3]]))(two_rows)
    sparsemax = build("sparsemax")(row)
    torch.testing.assert_close(weights[0], sparsemax)
    direction = torch.tensor([1.0, -2.0, 0.5, 4.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(
        torch.autograd.grad(weights[0] @ direction, row)[0], torch.autograd.grad(sparsemax @ direction, row)[0]
    )


@every_operator
@pytest.mark.parametrize("bad", [0.0, -1.0, torch.nan, torch.inf])
def test_a_row_whose_gamma_is_not_above_zero_is_nan_and_no_other(name, bad):
    rows = random_scores(2, 5).float()
    rows[:, 3] = -torch.inf
    weights = build(name).__class__(gamma=torch.tensor([[bad], [1.0]]))(rows)
    assert weights[0, [0, 1, 2, 4]].isnan().all()
    assert (weights[:, 3] == 0).all()
    torch.testing.assert_close(weights[1], build(name)(rows[1]))


@pytest.mark.parametrize("name", WITH_LAM)
@pytest.mark.parametrize("bad", [-1.0, torch.nan, torch.inf])
def test_a_row_whose_lam_is_below_zero_is_nan_and_no_other(name, bad):
    rows = random_scores(2, 5).requires_grad_()
    weights = RegularizedMax.by_name(name)(lam=torch.tensor([[bad], [0.1]]))(rows)
    (gradient,) = torch.autograd.grad(weights.sum(), rows)
    assert weights[0].isnan().all() and gradient[0].isnan().all()
    torch.testing.assert_close(weights[1], build(name)(rows[1]))


@every_operator
def test_a_regularization_of_the_wrong_shape_is_named(name):
    with pytest.raises(ValueError, match=r"gamma must broadcast to the shape \(2, 2, 1\), but has shape \(2, 5\)"):
        RegularizedMax.by_name(name)(gamma=torch.ones(2, 5))(scores())
    with pytest.raises(TypeError, match=r"gamma.*torch\.int64"):
        RegularizedMax.by_name(name)(gamma=torch.ones(2, dtype=torch.int64))


@every_operator
def test_learned_regularization_stays_positive_and_goes_where_the_loss_says(name):
    torch.manual_seed(0)
    learned = {"learn_lam": True, "lam": 0.05} if name in WITH_LAM else {}
    operator = RegularizedMax.by_name(name)(gamma=2.0, learn_gamma=True, **learned)
    rows = random_scores(64, 8).float()
    wanted = build(name, 0.5, 0.3)(rows)
    optimizer = torch.optim.Adam(operator.parameters(), lr=0.05)
    for _ in range(300):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(operator(rows), wanted).backward()
        optimizer.step()
    values = operator.learned_regularization()
    assert set(values) == ({"gamma", "lam"} if name in WITH_LAM else {"gamma"})
    torch.testing.assert_close(values["gamma"], torch.tensor(0.5), rtol=0.02, atol=0)
    if name in WITH_LAM:
        torch.testing.assert_close(values["lam"], torch.tensor(0.3), rtol=0.02, atol=0)
    copy = RegularizedMax.by_name(name)(learn_gamma=True, **learned)
    copy.load_state_dict(operator.state_dict())
    torch.testing.assert_close(copy(rows), operator(rows))


@pytest.mark.parametrize("name", WITH_LAM)
def test_regularization_that_is_not_learned_can_be_changed(name):
    rows = scores()
    operator = RegularizedMax.by_name(name)()
    operator.gamma, operator.lam = 0.5, torch.tensor(0.3)
    torch.testing.assert_close(operator(rows), build(name, 0.5, 0.3)(rows))
    operator.lam = 0.01
    torch.testing.assert_close(operator(rows), build(name, 0.5, 0.01)(rows))
    with pytest.raises(ValueError, match=r"lam must be .* but is -1"):
        operator.lam = -1
    with pytest.raises(AttributeError, match=r"lam is learned.*log_lam"):
        RegularizedMax.by_name(name)(learn_lam=True).lam = 0.2


@pytest.mark.parametrize("name", WITH_LAM)
def test_a_learned_lam_cannot_start_at_zero(name):
    with pytest.raises(ValueError, match=r"lam must be above 0.* but is 0"):
        RegularizedMax.by_name(name)(lam=0, learn_lam=True)


@every_operator
def test_torch_func(name):
    scores, mask = scores_and_mask()
    operator = apply(name, mask)
    direction = random_scores(*SHAPE, seed=5)
    jacobian = torch.autograd.functional.jacobian(operator, scores)
    torch.testing.assert_close(torch.func.jacrev(operator)(scores), jacobian)
    torch.testing.assert_close(torch.func.jacfwd(operator)(scores), jacobian)
    _, change = torch.func.jvp(operator, (scores,), (direction,))
    torch.testing.assert_close(change, torch.tensordot(jacobian, direction, dims=3))
    gradient = torch.func.grad(lambda scores: (operator(scores) * direction).sum())(scores)
    torch.testing.assert_close(gradient, torch.tensordot(direction, jacobian, dims=3))
    hessian = torch.func.hessian(lambda scores: operator(scores).square().sum())(scores)
    expected = torch.autograd.functional.hessian(lambda scores: operator(scores).square().sum(), scores)
    torch.testing.assert_close(hessian, expected)


@every_operator
@pytest.mark.parametrize("batch_dim", [0, 1])
def test_vmap(name, batch_dim):
    scores, mask = scores_and_mask()
    operator = build(name, 1.2, 0.15)
    expected = operator(scores, mask)
    batched = torch.func.vmap(operator, in_dims=batch_dim, out_dims=batch_dim)
    torch.testing.assert_close(batched(scores, mask), expected)
    shared_mask = mask.select(batch_dim, 1)
    batched = torch.func.vmap(operator, in_dims=(batch_dim, None), out_dims=batch_dim)
    torch.testing.assert_close(batched(scores, shared_mask), operator(scores, shared_mask.unsqueeze(batch_dim)))


@every_operator
def test_vmap_of_gradients_gives_a_gradient_for_each_example(name):
    operator = apply(name)
    direction = random_scores(5, seed=6)
    of_each = torch.func.vmap(torch.func.vmap(torch.func.grad(lambda row: operator(row) @ direction)))(scores())
    rows = scores().requires_grad_()
    (expected,) = torch.autograd.grad((operator(rows) * direction).sum(), rows)
    torch.testing.assert_close(of_each, expected)


@pytest.mark.parametrize("name", WITH_LAM)
def test_vmap_over_lam(name):
    row = random_scores(6)
    lams = torch.tensor([0.0, 0.1, 0.5], dtype=torch.float64)
    operator = RegularizedMax.by_name(name)
    over_lams = torch.func.vmap(lambda lam: operator(lam=lam)(row))(lams)
    torch.testing.assert_close(over_lams, torch.stack([operator(lam=lam.item())(row) for lam in lams]))


@every_operator
def test_forward_mode_goes_on_without_gradients(name):
    direction = random_scores(*SHAPE, seed=5)
    with torch.no_grad(), torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(scores(), direction)
        change = torch.autograd.forward_ad.unpack_dual(apply(name)(dual)).tangent
    torch.testing.assert_close(change, torch.func.jvp(apply(name), (scores(),), (direction,))[1])


@pytest.fixture(scope="module")
def inductor_cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("inductor"))


needs_a_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="there is no C++ compiler")


@every_operator
@pytest.mark.parametrize(
    ("backend", "dynamic", "learned"),
    [
        ("aot_eager", False, False),
        ("aot_eager", True, False),
        pytest.param("inductor", True, True, marks=needs_a_compiler),
    ],
)
def test_compiled_whole(name, learned, backend, dynamic, monkeypatch, inductor_cache):
    # As on GitHub's runners, where Inductor refuses more; compiled anew, not found in the cache of earlier runs.
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", inductor_cache)
    torch._dynamo.reset()
    arguments = {"learn_gamma": learned, **({"learn_lam": learned} if name in WITH_LAM else {})}
    operator = RegularizedMax.by_name(name)(**arguments)
    compiled = torch.compile(operator, backend=backend, fullgraph=True, dynamic=dynamic)
    for shape in (4, 2, 7), (5, 3, 9):
        mask = random_mask(*shape)
        results = []
        for function in compiled, operator:
            rows = random_scores(*shape).float().requires_grad_()
            weights = function(rows, mask)
            operator.zero_grad()
            (weights * random_scores(*shape, seed=3)).sum().backward()
            results.append([weights, rows.grad, *(parameter.grad for parameter in operator.parameters())])
        torch.testing.assert_close(*results)


@every_operator
def test_the_value_compiled_whole(name):
    torch._dynamo.reset()
    operator = RegularizedMax.by_name(name)(learn_gamma=True)
    mask = random_mask(*SHAPE)
    results = []
    for function in torch.compile(operator.value, backend="aot_eager", fullgraph=True), operator.value:
        rows = random_scores(*SHAPE).float().requires_grad_()
        operator.zero_grad()
        values = function(rows, mask)
        values.sum().backward()
        results.append([values, rows.grad, operator.log_gamma.grad])
    torch.testing.assert_close(*results)


def transform_of(operator: RegularizedMax, name: str) -> Callable[[Tensor], Tensor]:
    direction = random_scores(5, seed=3).float()

    def weights(row: Tensor) -> Tensor:
        return operator(row) * direction

    def gradient(row: Tensor) -> Tensor:
        return torch.func.grad(lambda row: weights(row).square().sum())(row)

    transforms = {
        "grad": gradient,
        "grad of grad": torch.func.grad(lambda row: gradient(row).square().sum()),
        "hessian of value": torch.func.hessian(lambda row: operator.value(row)),
        "jvp": lambda row: torch.func.jvp(weights, (row,), (direction,))[1],
        "vmap of grad": lambda row: torch.func.vmap(gradient)(torch.stack([row, -row, 2 * row])),
    }
    return transforms[name]


# Each takes seconds to compile, so of most operators only those that are most used.
@pytest.mark.parametrize(
    ("transform", "name", "learned"),
    [
        *(("grad", name, False) for name in NAMES),
        *(("hessian of value", name, False) for name in ("fusedmax", "oscarmax", "entmax")),
        *(("vmap of grad", name, True) for name in ("sparsemax", "fusedmax", "oscarmax", "entmax")),
        *(("jvp", name, True) for name in ("fusedmax", "squared_p_norm_max")),
        ("grad", "entmax", True),
    ],
)
def test_transforms_compiled_whole(transform, name, learned):
    row = random_scores(5, seed=8).float()
    arguments = {"learn_gamma": learned, **({"learn_lam": learned} if name in WITH_LAM else {})}
    if name == "entmax":
        arguments["learn_alpha"] = learned
    function = transform_of(RegularizedMax.by_name(name)(**arguments), transform)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(function, backend="aot_eager", fullgraph=True)(row), function(row))


@pytest.mark.parametrize("name", ["fusedmax", "squared_p_norm_max"])
def test_third_derivatives_compiled_whole(name):
    """By gamma, in which also the sparse ones are curved."""
    row, direction = random_scores(5, seed=8), random_scores(5, seed=3)

    def function(gamma: Tensor) -> Tensor:
        return (RegularizedMax.by_name(name)(gamma=gamma)(row) * direction).sum()

    for _ in range(3):
        function = torch.func.grad(function)
    gamma = torch.tensor(1.2, dtype=torch.float64)
    expected = function(gamma)
    assert expected.abs() > 1e-3
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(function, backend="aot_eager", fullgraph=True)(gamma), expected)


@every_operator
def test_autocast(name):
    matrix = random_scores(5, 5, seed=4).float().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        products = scores().float() @ matrix
        assert products.dtype == torch.bfloat16
        weights = build(name, 5.0, 0.02)(products)
    assert weights.dtype in (torch.bfloat16, torch.float32)
    torch.testing.assert_close(weights.float(), build(name, 5.0, 0.02)(products.float()), rtol=0, atol=2**-8)
    (weights.float() * scores()).sum().backward()
    assert matrix.grad.isfinite().all() and (matrix.grad != 0).any()


@pytest.mark.parametrize("with_mask", [False, True])
@pytest.mark.parametrize("lams", [None, torch.full((4, 1), 0.1, requires_grad=True)])
def test_the_operators_of_the_library(with_mask, lams):
    operators = torch.ops.regattn_allennlp
    rows = random_scores(4, 5).float().requires_grad_()
    mask = random_mask(4, 5) if with_mask else None
    opcheck(operators.sparsemax.default, (rows, mask, 0.9))
    for operator in operators.fusedmax, operators.oscarmax:
        opcheck(operator.default, (rows, mask, 0.9, 0.1, lams))
        weights, blocks = operator(rows, mask, 0.9, 0.1, lams)
        opcheck(operators.jacobian.default, (rows, blocks, 0.9))
        opcheck(operators.jacobian.default, (rows, weights.detach(), 0.9))


@pytest.mark.parametrize("offsets", [None, torch.tensor([0, 2, 2, 5])])
def test_the_operators_of_the_library_that_are_differentiated_implicitly(offsets):
    operators = torch.ops.regattn_allennlp
    rows, mask = random_scores(4, 5), random_mask(4, 5)
    alphas = torch.full((4, 1 if offsets is None else 3), 1.3)
    for by_alpha in (1.3, None), (0.0, alphas):
        opcheck(operators.entmax.default, (rows, mask, 0.9, *by_alpha, False, offsets))
        weights = operators.entmax(rows, mask, 0.9, *by_alpha, False, offsets)
        opcheck(operators.entmax_jacobian.default, (rows, weights, *by_alpha, offsets))
    for solver, jacobian in (
        (operators.squared_p_norm_max, operators.squared_p_norm_jacobian),
        (operators.normmax, operators.normmax_jacobian),
    ):
        opcheck(solver.default, (rows, mask, 0.9, 1.5, offsets))
        opcheck(jacobian.default, (rows, solver(rows, mask, 0.9, 1.5, offsets), 1.5, offsets))
    opcheck(operators.fusedmax.default, (rows.requires_grad_(), mask, 0.9, 0.1, None, offsets))


@every_operator
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_captured_in_a_cuda_graph(name):
    operator = build(name)
    rows = random_scores(64, 33).float().cuda().requires_grad_()
    direction = random_scores(64, 33, seed=1).float().cuda()

    def step() -> tuple[Tensor, Tensor]:
        weights = operator(rows)
        return weights, torch.autograd.grad(weights, rows, direction)[0]

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        step()  # compiles
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    with torch.no_grad():
        rows.copy_(random_scores(64, 33, seed=2))
    graph.replay()
    torch.testing.assert_close(captured, step())
