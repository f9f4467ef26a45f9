import math

import cvxpy
import mpmath
import pytest
import torch
from hypothesis import given
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from regattn_allennlp import Normmax, RegularizedMax, normmax
from tests.operators.common import gammas, masked_rows, property_test, random_mask, random_scores
from tests.operators.transforms import check_autocast, check_compiled, check_function_transforms

EXPONENTS = [1.01, 1.3, 1.5, 2.0, 3.0, 8.0]


def test_by_hand():
    # At q = 2 the slopes are p / ||p||: the squares of what is above the threshold, 0.2, sum to 1.
    scores = torch.tensor([1.0, 0.8, -0.1], dtype=torch.float64)
    expected = torch.tensor([0.8, 0.6, 0.0], dtype=torch.float64) / 1.4
    assert_close(normmax(scores), expected, rtol=0, atol=1e-15)
    assert_close(normmax(2 * scores + 7, gamma=2.0), expected, rtol=0, atol=1e-14)
    assert_close(Normmax().value(scores).item(), (0.8 + 0.48) / 1.4 - 1 / 1.4, rtol=0, atol=1e-15)
    # At q = 3 it sums to 1 to the power of 3/2, and the weights go like its square root. The threshold is 0.
    first, second = 0.8 ** (2 / 3), 0.2 ** (2 / 3)
    expected = torch.tensor([first**0.5, second**0.5], dtype=torch.float64) / (first**0.5 + second**0.5)
    assert_close(normmax(torch.tensor([first, second]).double(), exponent=3), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_one_score_gets_all_exactly_if_it_is_ahead_by_gamma(exponent):
    assert normmax(torch.tensor([1.0, 0.0]), exponent=exponent).tolist() == [1.0, 0.0]
    assert normmax(torch.tensor([3.0, 1.0, 0.5]), gamma=2.0, exponent=exponent).tolist() == [1.0, 0.0, 0.0]
    # A little less, and the second begins like the (q - 1)-th root of what is missing.
    missing = 1e-6
    second = normmax(torch.tensor([1.0, missing]).double(), exponent=exponent)[1].item()
    assert_close(second, missing ** (1 / (exponent - 1)), rtol=0.2, atol=0)


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_equal_scores_get_equal_weights(exponent):
    weights = normmax(torch.tensor([0.3, 1.0, 1.0, -4.0, 1.0, 0.3], dtype=torch.float64), exponent=exponent)
    assert weights[1] == weights[2] == weights[4] > weights[0] == weights[5] and weights[3] == 0


def test_the_limits():
    scores = torch.tensor([1.0, 0.9, 0.3, -0.6], dtype=torch.float64)
    # Omega -> max p: equal weights for the largest k, as many as fit in: 0.7 + 0.6 above 0.3 are more than 1.
    expected = torch.tensor([0.5, 0.5, 0.0, 0.0], dtype=torch.float64)
    assert_close(normmax(scores, exponent=1e9), expected, rtol=0, atol=1e-7)
    expected = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    assert_close(normmax(scores, exponent=1 + 1e-9), expected, rtol=0, atol=0)
    for exponent in (1e300, 1 + 1e-15):
        scores = torch.zeros(3, requires_grad=True)
        weights, value = normmax(scores, exponent=exponent), Normmax(exponent=exponent).value(scores)
        assert_close(weights, torch.full((3,), 1 / 3))
        assert_close(value.item(), -1 / 3 if exponent > 2 else -1.0)
        value.backward()
        assert_close(scores.grad, weights)


@pytest.mark.parametrize("exponent", EXPONENTS)
@property_test
@given(masked_row=masked_rows(), gamma=gammas)
def test_the_weights_meet_the_optimality_conditions(exponent, masked_row, gamma):
    row, mask = masked_row
    weights = normmax(row, mask, gamma=gamma, exponent=exponent)
    assert (weights >= 0).all()
    assert (weights[~mask] == 0).all()
    assert_close(weights.sum().item(), 1.0, rtol=0, atol=1e-14)
    row, weights = (row[mask] / gamma).tolist(), weights[mask].tolist()
    norm = max(weights) * sum((p / max(weights)) ** exponent for p in weights) ** (1 / exponent)
    slopes = [x - (p / norm) ** (exponent - 1) for x, p in zip(row, weights, strict=True)]
    best = slopes[weights.index(max(weights))]
    tolerance = 1e-15 * (1 + max(map(abs, row)))
    for slope, p in zip(slopes, weights, strict=True):
        if p > 0:
            assert abs(slope - best) < 16 * tolerance
        else:
            assert slope < best + 16 * tolerance


@pytest.mark.parametrize("exponent", [1.25, 1.5, 2, 3, 5])
def test_the_weights_are_those_of_a_convex_solver(exponent):
    for seed in range(4):
        row = random_scores(6, seed=seed)
        weights = cvxpy.Variable(6)
        objective = cvxpy.Maximize(row.numpy() @ weights - 0.7 * cvxpy.pnorm(weights, exponent))
        problem = cvxpy.Problem(objective, [weights >= 0, cvxpy.sum(weights) == 1])
        problem.solve(solver=cvxpy.CLARABEL)
        operator = Normmax(gamma=0.7, exponent=exponent)
        assert_close(operator(row), torch.from_numpy(weights.value), rtol=0, atol=1e-4)
        assert_close(operator.value(row).item(), problem.objective.value, rtol=0, atol=1e-7)


@pytest.mark.parametrize("exponent", [1.1, 2.0, 3.0, 6.0])
def test_the_weights_are_those_of_a_hundred_digits(exponent):
    row = (3 * random_scores(40)).tolist()
    with mpmath.workdps(100):
        scores, dual = [mpmath.mpf(x) for x in row], mpmath.mpf(exponent) / (mpmath.mpf(exponent) - 1)
        low, high = max(scores) - 1, max(scores)
        for _ in range(400):
            middle = (low + high) / 2
            total = mpmath.fsum((x - middle) ** dual for x in scores if x > middle)
            low, high = (middle, high) if total > 1 else (low, middle)
        powers = [max(x - low, 0) ** (dual - 1) for x in scores]
        expected = torch.tensor([float(power / mpmath.fsum(powers)) for power in powers], dtype=torch.float64)
    weights = normmax(torch.tensor(row, dtype=torch.float64), exponent=exponent)
    assert_close(weights, expected, rtol=0, atol=1e-14)
    single = normmax(torch.tensor(row), exponent=exponent)
    assert_close(single.double(), normmax(torch.tensor(row).double(), exponent=exponent), rtol=0, atol=3e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("exponent", [1.01, 1.5, 2.0, 8.0])
def test_long_rows_of_ties_keep_the_precision_of_the_dtype(dtype, exponent):
    scores = torch.full((10000,), -3.0, dtype=dtype)
    scores[:9000] = 0.5
    weights = normmax(scores, gamma=3.0, exponent=exponent)
    expected = torch.full((9000,), 1 / 9000, dtype=dtype)
    assert_close(weights[:9000], expected, rtol=20 * torch.finfo(dtype).eps, atol=0)
    assert (weights[9000:] == 0).all()


@pytest.mark.parametrize("exponent", [1.25, 2.0, 3.5])
@pytest.mark.parametrize("of_value", [False, True])
def test_derivatives_by_scores_and_gamma_are_those_of_finite_differences(exponent, of_value):
    scores, mask = (0.5 * random_scores(3, 5)).requires_grad_(), random_mask(3, 5)
    gamma = torch.tensor([[1.2], [1.0], [2.0]], dtype=torch.float64, requires_grad=True)

    def run(scores, gamma):
        operator = Normmax(gamma, exponent)
        return operator.value(scores, mask) if of_value else operator(scores, mask)

    assert gradcheck(run, (scores, gamma), check_forward_ad=True)
    assert gradgradcheck(run, (scores, gamma), check_fwd_over_rev=True, fast_mode=True)


@pytest.mark.parametrize("exponent", [1.5, 2.0, 3.0])
def test_the_jacobian_is_the_inverse_of_the_hessian_on_the_plane_of_sums_0(exponent):
    scores = 0.1 * random_scores(6)
    weights = normmax(scores, gamma=3.0, exponent=exponent)
    assert (weights > 0).all()
    hessian = torch.func.hessian(lambda p: p.pow(exponent).sum() ** (1 / exponent))(weights)
    jacobian = 3.0 * torch.func.jacrev(lambda scores: normmax(scores, gamma=3.0, exponent=exponent))(scores)
    plane = torch.eye(6, dtype=torch.float64) - 1 / 6
    assert_close(plane @ hessian @ jacobian, plane, rtol=0, atol=1e-12)
    assert_close(jacobian.sum(-1), torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-14)


def test_derivatives_by_the_weights_of_omega_where_some_are_0():
    weights = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(Normmax(exponent=3.0).omega(weights).sum(), weights)
    norm = (0.7**3 + 0.3**3) ** (1 / 3)
    expected = torch.tensor([[(0.7 / norm) ** 2, (0.3 / norm) ** 2, 0.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    assert_close(gradient, expected)


@pytest.mark.parametrize("exponent", [1.5, 3.0])
def test_function_transforms(exponent):
    check_function_transforms(lambda scores: normmax(scores, gamma=2.0, exponent=exponent))


@pytest.mark.parametrize("exponent", [2.0, 3.0])
def test_torch_compile(exponent):
    check_compiled(lambda scores: normmax(scores, gamma=0.7, exponent=exponent))


def test_autocast():
    check_autocast(Normmax())


def test_learned_gamma():
    operator = Normmax(gamma=3.0, learn_gamma=True)
    operator(random_scores(3, 4, dtype=torch.float32))[:, 0].sum().backward()
    assert operator.log_gamma.grad.abs() > 0
    assert operator.with_regularization(gamma=0.5).gamma == 0.5


@pytest.mark.parametrize("exponent", [1, 1.0, 0.5, math.nan, math.inf])
def test_the_exponent_must_be_a_finite_number_above_1(exponent):
    for build in (lambda: normmax(random_scores(3), exponent=exponent), lambda: Normmax(exponent=exponent)):
        with pytest.raises(ValueError, match=f"exponent must be a finite number, above 1, but is {exponent}"):
            build()


@pytest.mark.parametrize("exponent", ["1.5", None, True, torch.tensor(1.5)])
def test_the_exponent_must_be_a_number(exponent):
    with pytest.raises(TypeError, match="exponent"):
        Normmax(exponent=exponent)


def test_it_is_registered_and_shows_its_arguments():
    operator = RegularizedMax.from_params({"type": "normmax", "exponent": 3})
    assert repr(operator) == "Normmax(exponent=3.0, gamma=1.0, dim=-1)"
