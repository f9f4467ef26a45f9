import math

import cvxpy
import pytest
import torch
from hypothesis import given
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from regattn_allennlp import RegularizedMax, SquaredPNormMax, sparsemax, squared_p_norm_max
from tests.operators.common import gammas, masked_rows, property_test, random_mask, random_scores
from tests.operators.transforms import check_autocast, check_compiled, check_function_transforms

EXPONENTS = [1.1, 1.3, 1.5, 1.75, 1.99]


def test_by_hand():
    # At q = 3/2 the slopes are ||p||^(1/2) * p^(1/2).
    factor = (0.8**1.5 + 0.2**1.5) ** (1 / 3)
    scores = torch.tensor([factor * 0.8**0.5, factor * 0.2**0.5, -0.1], dtype=torch.float64)
    expected = torch.tensor([0.8, 0.2, 0.0], dtype=torch.float64)
    assert_close(squared_p_norm_max(scores), expected, rtol=0, atol=1e-15)
    assert_close(squared_p_norm_max(2 * scores + 7, gamma=2.0), expected, rtol=0, atol=1e-14)
    # The largest is ahead by gamma.
    assert squared_p_norm_max(torch.tensor([1.0, 0.0])).tolist() == [1.0, 0.0]


@pytest.mark.parametrize("exponent", EXPONENTS)
@property_test
@given(masked_row=masked_rows(), gamma=gammas)
def test_the_weights_meet_the_optimality_conditions(exponent, masked_row, gamma):
    row, mask = masked_row
    weights = squared_p_norm_max(row, mask, gamma=gamma, exponent=exponent)
    assert (weights >= 0).all()
    assert (weights[~mask] == 0).all()
    assert_close(weights.sum().item(), 1.0, rtol=0, atol=1e-14)
    row, weights = (row[mask] / gamma).tolist(), weights[mask].tolist()
    factor = sum(p**exponent for p in weights) ** (2 / exponent - 1)
    slopes = [x - factor * p ** (exponent - 1) for x, p in zip(row, weights, strict=True)]
    best = slopes[weights.index(max(weights))]
    tolerance = 1e-15 * (1 + max(map(abs, row)))
    for slope, p in zip(slopes, weights, strict=True):
        if p > 0:
            assert abs(slope - best) < 8 * tolerance
        else:
            assert slope < best + 8 * tolerance


@pytest.mark.parametrize("exponent", [1.25, 1.5])
def test_the_weights_are_those_of_a_convex_solver(exponent):
    for seed in range(4):
        row = random_scores(6, seed=seed)
        weights = cvxpy.Variable(6)
        omega = cvxpy.square(cvxpy.pnorm(weights, exponent)) / 2
        objective = cvxpy.Maximize(row.numpy() @ weights - 0.7 * omega)
        problem = cvxpy.Problem(objective, [weights >= 0, cvxpy.sum(weights) == 1])
        problem.solve(solver=cvxpy.CLARABEL)
        operator = SquaredPNormMax(gamma=0.7, exponent=exponent)
        assert_close(operator(row), torch.from_numpy(weights.value), rtol=0, atol=1e-4)
        expected = torch.from_numpy(weights.value).clamp(min=0)
        value = (row @ expected).item() - 0.7 * expected.pow(exponent).sum().item() ** (2 / exponent) / 2
        assert_close(operator.value(row).item(), value, rtol=0, atol=1e-6)


def test_exponent_2_is_sparsemax_and_just_below_it_nearly():
    scores, mask = random_scores(50, 9), random_mask(50, 9)
    expected = sparsemax(scores, mask, gamma=0.7)
    for exponent in (2, 2.0):
        assert torch.equal(squared_p_norm_max(scores, mask, gamma=0.7, exponent=exponent), expected)
    near = squared_p_norm_max(scores, mask, gamma=0.7, exponent=2 - 1e-12)
    assert_close(near, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("exponent", [1.01, 1.5, 1.99])
def test_long_rows_of_ties_keep_the_precision_of_the_dtype(dtype, exponent):
    scores = torch.full((10000,), -3.0, dtype=dtype)
    scores[:9000] = 0.5
    weights = squared_p_norm_max(scores, gamma=3.0, exponent=exponent)
    expected = torch.full((9000,), 1 / 9000, dtype=dtype)
    assert_close(weights[:9000], expected, rtol=20 * torch.finfo(dtype).eps, atol=0)
    assert (weights[9000:] == 0).all()


@pytest.mark.parametrize("exponent", [1.25, 1.75])
@pytest.mark.parametrize("of_value", [False, True])
def test_derivatives_by_scores_and_gamma_are_those_of_finite_differences(exponent, of_value):
    scores, mask = random_scores(3, 5).requires_grad_(), random_mask(3, 5)
    gamma = torch.tensor([[0.7], [1.0], [2.0]], dtype=torch.float64, requires_grad=True)

    def run(scores, gamma):
        operator = SquaredPNormMax(gamma, exponent)
        return operator.value(scores, mask) if of_value else operator(scores, mask)

    assert gradcheck(run, (scores, gamma), check_forward_ad=True)
    assert gradgradcheck(run, (scores, gamma), check_fwd_over_rev=True, fast_mode=True)


def test_the_jacobian_is_the_inverse_of_the_hessian_on_the_plane_of_sums_0():
    scores = 0.2 * random_scores(6)
    weights = squared_p_norm_max(scores, gamma=3.0)
    assert (weights > 0).all()
    hessian = torch.func.hessian(lambda p: p.pow(1.5).sum() ** (2 / 1.5) / 2)(weights)
    jacobian = 3.0 * torch.func.jacrev(lambda scores: squared_p_norm_max(scores, gamma=3.0))(scores)
    plane = torch.eye(6, dtype=torch.float64) - 1 / 6
    assert_close(plane @ hessian @ jacobian, plane, rtol=0, atol=1e-12)
    assert_close(jacobian.sum(-1), torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-14)


def test_function_transforms():
    check_function_transforms(lambda scores: squared_p_norm_max(scores, gamma=2.0))


def test_torch_compile():
    check_compiled(lambda scores: squared_p_norm_max(scores, gamma=0.7))


def test_autocast():
    check_autocast(SquaredPNormMax())


def test_rows_without_a_solution():
    scores = random_scores(5, 4, dtype=torch.float32)
    scores[1, 2], scores[2, 1], scores[3], scores[4, 0] = math.nan, math.inf, -math.inf, -math.inf
    scores.requires_grad_()
    weights = squared_p_norm_max(scores)
    weights.square().sum().backward()
    assert weights.isnan().any(-1).tolist() == [False, True, True, False, False]
    assert (weights[3] == 0).all() and (scores.grad[3] == 0).all()
    assert scores.grad[[0, 3, 4]].isfinite().all()
    assert_close(weights[4, 1:], squared_p_norm_max(scores[4, 1:]))


def test_learned_gamma():
    operator = SquaredPNormMax(gamma=3.0, learn_gamma=True)
    operator(random_scores(3, 4, dtype=torch.float32))[:, 0].sum().backward()
    assert operator.log_gamma.grad.abs() > 0


@pytest.mark.parametrize("exponent", [1, 1.0, 0.5, 2.01, math.nan, math.inf])
def test_the_exponent_must_be_above_1_and_not_above_2(exponent):
    for build in (lambda: squared_p_norm_max(random_scores(3), exponent=exponent),
                  lambda: SquaredPNormMax(exponent=exponent)):  # fmt: skip
        with pytest.raises(ValueError, match=f"exponent.*{exponent}"):
            build()


@pytest.mark.parametrize("exponent", ["1.5", None, True, torch.tensor(1.5)])
def test_the_exponent_must_be_a_number(exponent):
    with pytest.raises(TypeError, match="exponent"):
        SquaredPNormMax(exponent=exponent)


def test_it_is_registered_and_shows_its_arguments():
    operator = RegularizedMax.from_params({"type": "squared_p_norm_max", "exponent": 1.25})
    assert repr(operator) == "SquaredPNormMax(exponent=1.25, gamma=1.0, dim=-1)"
