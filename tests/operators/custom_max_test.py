import math
import warnings

import cvxpy
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from regattn_allennlp import (
    CustomMax,
    RegularizedMax,
    custom_max,
    entmax,
    softmax,
    sparsemax,
    squared_p_norm_max,
)
from tests.operators.common import gammas, masked_rows, random_mask, random_scores
from tests.operators.transforms import check_autocast, check_function_transforms

THIS_MODULE = __name__


def entropy(weights):
    return torch.special.xlogy(weights, weights).sum()


def half_square(weights):
    return weights.square().sum() / 2


def tsallis(weights):
    return (weights**1.5 - weights).sum() / 0.75


def half_squared_norm(weights):
    return weights.pow(1.5).sum() ** (2 / 1.5) / 2


def quadratic(matrix, offset):
    return lambda weights: weights @ matrix @ weights / 2 + offset @ weights


class WeightedSquare(torch.nn.Module):
    """Learns one curvature for each of 5 positions, and a coupling of all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.curvature = torch.nn.Parameter(torch.tensor([0.5, 1.0, 1.5, 2.0, 2.5]))
        self.coupling = torch.nn.Parameter(torch.tensor(0.3))

    def forward(self, weights):
        matrix = torch.diag(self.curvature) + self.coupling * torch.arange(25.0).view(5, 5).cos().to(weights) / 5
        return weights @ (matrix + matrix.t()) @ weights / 4


CLOSED_FORMS = [
    (entropy, softmax),
    (half_square, sparsemax),
    (tsallis, entmax),
    (half_squared_norm, squared_p_norm_max),
]
every_closed_form = pytest.mark.parametrize("omega, closed_form", CLOSED_FORMS)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


@every_closed_form
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.3, 1, 10, 1e3])
def test_weights_and_value_are_those_of_the_closed_forms(omega, closed_form, dtype, scale):
    scores, mask = scale * random_scores(60, 9, dtype=dtype), random_mask(60, 9)
    scores[:10] = scores[:10].round()
    scores[10, 2], scores[11, 2] = -1e9, -1e30  # others' ways to mask
    mask[12] = False
    tolerance = {"rtol": 0, "atol": 8 * torch.finfo(dtype).eps}
    weights = custom_max(scores, omega, mask, gamma=0.7)
    assert weights.dtype == dtype
    assert_close(weights, closed_form(scores, mask, gamma=0.7), **tolerance)
    if closed_form is not softmax:
        assert torch.equal(weights == 0, closed_form(scores, mask, gamma=0.7) == 0)
    value = CustomMax(omega, gamma=0.7).value(scores, mask)
    expected = RegularizedMax.by_name(closed_form.__name__)(gamma=0.7).value(scores, mask)
    assert_close(value, expected, rtol=2 * torch.finfo(dtype).eps, atol=16 * torch.finfo(dtype).eps)


@every_closed_form
@settings(deadline=None, derandomize=True, max_examples=12)
@given(masked_row=masked_rows(), gamma=gammas)
def test_any_row(omega, closed_form, masked_row, gamma):
    row, mask = masked_row
    expected = closed_form(row, mask, gamma=gamma)
    assert_close(custom_max(row, omega, mask, gamma=gamma), expected, rtol=0, atol=1e-13)


def test_a_quadratic_is_that_of_a_convex_solver():
    random = np.random.default_rng(0)
    for length in (2, 6):
        root = random.normal(size=(length, length))
        matrix = root @ root.T + 0.1 * np.eye(length)
        offset = random.normal(size=length)
        for _ in range(4):
            row = 3 * random.normal(size=length)
            weights = cvxpy.Variable(length)
            omega = cvxpy.quad_form(weights, cvxpy.psd_wrap(matrix)) / 2 + offset @ weights
            objective = cvxpy.Maximize(row @ weights - 0.7 * omega)
            problem = cvxpy.Problem(objective, [weights >= 0, cvxpy.sum(weights) == 1])
            problem.solve(solver=cvxpy.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)

            operator = CustomMax(quadratic(torch.from_numpy(matrix), torch.from_numpy(offset)), gamma=0.7)
            expected = torch.from_numpy(weights.value)
            assert_close(operator(torch.from_numpy(row)), expected, rtol=0, atol=1e-7)
            assert_close(operator.value(torch.from_numpy(row)).item(), problem.value, rtol=0, atol=1e-8)


@every_closed_form
def test_first_and_second_derivatives_are_those_of_the_closed_forms(omega, closed_form):
    scores, mask = random_scores(4, 5).requires_grad_(), random_mask(4, 5)
    gamma = torch.tensor([[0.7], [1.0], [2.0], [0.5]], dtype=torch.float64, requires_grad=True)
    upstream, second_upstream = random_scores(4, 5, seed=1), random_scores(4, 5, seed=2)
    results = []
    for run in (lambda: custom_max(scores, omega, mask, gamma=gamma), lambda: closed_form(scores, mask, gamma=gamma)):
        first = torch.autograd.grad(run(), (scores, gamma), upstream, create_graph=True)
        second = torch.autograd.grad((first[0] * second_upstream).sum() + first[1].sum(), (scores, gamma))
        results.append((*first, *second))
    assert_close(results[0], results[1], rtol=0, atol=1e-11)


@pytest.mark.parametrize("of_value", [False, True])
def test_derivatives_by_omegas_own_parameters(of_value):
    omega = WeightedSquare().double()
    operator = CustomMax(omega, gamma=0.7)
    assert {name for name, _ in operator.named_parameters()} == {"omega_function.curvature", "omega_function.coupling"}
    scores, mask = (0.3 * random_scores(2, 5)).requires_grad_(), random_mask(2, 5)
    weights = operator(scores, mask)
    assert ((weights > 0).sum(-1) > 1).all()

    def run(scores, curvature, coupling):
        parameters = {"omega_function.curvature": curvature, "omega_function.coupling": coupling}
        if not of_value:
            return torch.func.functional_call(operator, parameters, (scores, mask))
        with torch.nn.utils.stateless._reparametrize_module(operator, parameters):
            return operator.value(scores, mask)

    arguments = (scores, *(parameter.detach().clone().requires_grad_() for parameter in omega.parameters()))
    assert gradcheck(run, arguments)
    assert gradgradcheck(run, arguments, fast_mode=True)
    if not of_value:
        assert gradcheck(run, arguments, check_forward_ad=True, check_backward_ad=False, fast_mode=True)


@pytest.mark.parametrize("omega", [entropy, half_squared_norm])
def test_function_transforms(omega):
    check_function_transforms(lambda scores: custom_max(scores, omega, gamma=2.0))


def test_a_custom_sparsemax_has_no_second_derivative():
    weights_of = torch.func.jacrev(torch.func.jacrev(lambda scores: custom_max(scores, half_square)))
    assert (weights_of(random_scores(5)) == 0).all()


def test_autocast():
    matrix = torch.eye(7) + 0.1
    check_autocast(CustomMax(lambda weights: weights @ matrix @ weights / 2))


def test_compiled_code_runs_it_outside_of_its_graph():
    torch._dynamo.reset()
    scores = random_scores(3, 4)
    compiled = torch.compile(lambda scores: 2 * custom_max(scores + 1, half_square), backend="eager")
    assert_close(compiled(scores), 2 * sparsemax(scores))


def test_half_precision_dimensions_and_shapes():
    scores, mask = random_scores(2, 5, 3, dtype=torch.bfloat16), random_mask(5, 1)
    operator = CustomMax(half_square, dim=1, gamma=2.0)
    weights = operator(scores, mask)
    assert weights.dtype == torch.bfloat16
    assert_close(weights, sparsemax(scores, mask, dim=1, gamma=2.0))
    assert operator.value(scores, mask).shape == (2, 3)
    for shape in ((0, 5), (3, 0)):
        empty = torch.zeros(shape, requires_grad=True)
        assert custom_max(empty, half_square).shape == shape
        CustomMax(half_square).value(empty).sum().backward()
        assert empty.grad.shape == shape
    with pytest.raises(ValueError, match="mask"):
        operator(scores, torch.ones(4, 1, dtype=torch.bool))


def test_rows_without_a_solution():
    scores = random_scores(5, 4, dtype=torch.float32)
    scores[1, 2], scores[2, 1], scores[3], scores[4, 0] = math.nan, math.inf, -math.inf, -math.inf
    scores.requires_grad_()
    for omega, closed_form in CLOSED_FORMS:
        scores.grad = None
        weights = custom_max(scores, omega)
        weights[[0, 3, 4]].square().sum().backward()
        assert weights.isnan().all(-1).tolist() == [False, True, True, False, False]
        assert (weights[3] == 0).all() and (scores.grad[3] == 0).all()
        assert scores.grad[[0, 3, 4]].isfinite().all()
        assert_close(weights[[0, 4]], closed_form(scores[[0, 4]]))
    # Omega of nothing counts for nothing.
    assert CustomMax(lambda weights: half_square(weights) + 5).value(scores)[3] == 0


def test_rows_that_do_not_converge_are_nan_and_named():
    scores = torch.tensor([[0.5, 0.2, 0.1], [-math.inf, -math.inf, -math.inf]], dtype=torch.float64)
    with pytest.warns(RuntimeWarning, match=r"1 of 2 rows did not converge.*convex"):
        weights = custom_max(scores, lambda weights: weights.log().square().sum() * math.nan)
    assert weights[0].isnan().all()
    assert (weights[1] == 0).all()


def test_a_wrong_omega_function_is_named():
    with pytest.raises(TypeError, match=r"omega_function must be callable.*0.5"):
        CustomMax(0.5)
    with pytest.raises(TypeError, match=r"omega_function must be callable.*0.5"):
        custom_max(random_scores(3), 0.5)
    with pytest.raises(ValueError, match=r"omega_function must return.*\(3,\)"):
        custom_max(random_scores(2, 3), lambda weights: weights)
    with pytest.raises(ValueError, match=r"omega_function must return.*float"):
        custom_max(random_scores(2, 3), lambda weights: 1.0)


def test_a_dotted_path_names_a_function_or_a_module():
    scores = random_scores(3, 5, dtype=torch.float32)
    operator = RegularizedMax.from_params({"type": "custom", "omega_function": f"{THIS_MODULE}.half_square"})
    assert operator.omega_function is half_square
    assert_close(operator(scores), sparsemax(scores))
    assert repr(operator) == "CustomMax(omega_function=half_square, gamma=1.0, dim=-1)"
    learned = CustomMax(f"{THIS_MODULE}.WeightedSquare")
    assert isinstance(learned.omega_function, WeightedSquare)
    learned(scores).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in learned.parameters())


@pytest.mark.parametrize(
    "path, message",
    [
        ("half_square", r"dotted path.*'half_square'"),
        (f"{THIS_MODULE}.half_sqare", "has no 'half_sqare'"),
        ("no_such_package.omega", "'no_such_package' cannot be imported.*No module named"),
    ],
)
def test_a_path_that_leads_nowhere_is_an_error(path, message):
    with pytest.raises(ValueError, match=message):
        CustomMax(path)
