import math

import cvxpy
import mpmath
import pytest
import torch
from hypothesis import given
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from regattn_allennlp import Entmax, RegularizedMax, entmax, softmax, sparsemax
from regattn_allennlp.operators.entmax import exponential_moment
from tests.operators.common import gammas, masked_rows, property_test, random_mask, random_scores
from tests.operators.transforms import check_autocast, check_compiled, check_function_transforms

ALPHAS = [1 + 1e-7, 1.01, 1.25, 1.5, 1.75, 1.99, 2.5, 4.0]

# At 1.5 the weights are (v_i / 2 - t)^2.
EXAMPLES = [
    # v / 2 = (0.7, 0.1), t = -0.1: 0.64 + 0.04 is not 1. With (0.8, 0.6) for the roots, v / 2 differ by 0.2.
    ([0.4, 0.0], 1.0, [0.64, 0.36]),
    # Roots 2/3, 2/3, 1/3.
    ([0.0, 0.0, -2 / 3], 1.0, [4 / 9, 4 / 9, 1 / 9]),
    # The same divided by gamma, and a third one 2 * 0.8 * gamma or more below the largest has no weight.
    ([0.8, 0.0, -2.4], 2.0, [0.64, 0.36, 0.0]),
    ([3.0, 1.0], 1.0, [1.0, 0.0]),
    ([5.0, 5.0, 5.0, 5.0], 1.0, [0.25, 0.25, 0.25, 0.25]),
]


@pytest.mark.parametrize("scores, gamma, expected", EXAMPLES)
@pytest.mark.parametrize("as_tensor", [False, True])
def test_entmax_1_5_by_hand(scores, gamma, expected, as_tensor):
    alpha = torch.tensor(1.5, dtype=torch.float64) if as_tensor else 1.5
    weights = entmax(torch.tensor(scores, dtype=torch.float64), gamma=gamma, alpha=alpha)
    assert_close(weights, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-15)
    assert (weights == 0).tolist() == [weight == 0 for weight in expected]


def optimality_gap(row, weights, gamma, alpha):
    """
    How far the slopes of <p, x> / gamma - Omega(p) are from equal on the support, and from below that off it, each as
    the change of the weight that it asks for.
    """
    order = alpha - 1
    slopes = [x / gamma - (math.expm1(order * math.log(p)) / order if p > 0 else -1 / order)
              for x, p in zip(row, weights, strict=True)]  # fmt: skip
    largest = max(range(len(row)), key=lambda i: weights[i])
    gaps = []
    for slope, p in zip(slopes, weights, strict=True):
        if p > 0:
            gaps.append(abs(slope - slopes[largest]) * p ** (2 - alpha))
        else:
            # Weights below what a float can be are 0 too: what the slope asks for is (order * excess)^(1 / order).
            gaps.append(max(order * (slope - slopes[largest]), 0.0) ** (1 / order))
    return max(gaps)


@pytest.mark.parametrize("alpha", ALPHAS)
@property_test
@given(masked_row=masked_rows(), gamma=gammas)
def test_the_weights_meet_the_optimality_conditions(alpha, masked_row, gamma):
    row, mask = masked_row
    weights = entmax(row, mask, gamma=gamma, alpha=alpha)
    assert (weights >= 0).all()
    assert (weights[~mask] == 0).all()
    assert_close(weights.sum().item(), 1.0, rtol=0, atol=1e-14)
    # (Above 2 these conditions are not exact in floating point: below, the weights are compared to many digits.)
    if alpha <= 2:
        assert optimality_gap(row[mask].tolist(), weights[mask].tolist(), gamma, alpha) < 1e-12


def weights_of_many_digits(row, alpha, gamma):
    """By halving, with so many digits that also the roots of the smallest differences have some."""
    order = mpmath.mpf(alpha) - 1
    values = [(mpmath.mpf(score) - mpmath.mpf(max(row))) / mpmath.mpf(gamma) for score in row]
    low, high = -1 / order, mpmath.mpf(0)
    for _ in range(int(mpmath.mp.prec)):
        threshold = (low + high) / 2
        weights = [(order * max(value - threshold, 0)) ** (1 / order) for value in values]
        low, high = (threshold, high) if sum(weights) >= 1 else (low, threshold)
    return weights


def jacobian_product_of_many_digits(weights, alpha, vector):
    shares = [weight ** (2 - mpmath.mpf(alpha)) if weight > 0 else mpmath.mpf(0) for weight in weights]
    mean = sum(share * mpmath.mpf(x) for share, x in zip(shares, vector, strict=True)) / sum(shares)
    return [share * (mpmath.mpf(x) - mean) for share, x in zip(shares, vector, strict=True)]


def floats(numbers):
    return torch.tensor([float(number) for number in numbers], dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("alpha", [1.0001, 1.2, 1.5, 1.9, 2.0, 2.2, 3.0, 4.0, 8.0, 16.0, 30.0, 64.0])
def test_weights_and_gradients_have_all_digits(alpha, dtype):
    epsilon = torch.finfo(dtype).eps
    for seed, (length, scale, gamma) in enumerate([(2, 0.3, 1.0), (3, 0.02, 0.7), (5, 1.0, 2.5), (9, 0.1, 1.0)]):
        row = (scale * random_scores(length, seed=seed)).to(dtype)
        vector = random_scores(length, seed=seed + 10, dtype=dtype)
        with mpmath.workdps(350 if alpha > 8 else 60):
            expected = weights_of_many_digits(row.tolist(), alpha, gamma)
            products = jacobian_product_of_many_digits(expected, alpha, vector.tolist())
            expected_gradient = floats(product / mpmath.mpf(gamma) for product in products)
            expected = floats(expected)
        for number_or_tensor in (alpha, torch.tensor(alpha, dtype=torch.float64)):
            leaf = row.clone().requires_grad_()
            weights = entmax(leaf, gamma=gamma, alpha=number_or_tensor)
            assert_close(weights.detach().double(), expected, rtol=0, atol=2 * epsilon)
            assert torch.equal(weights > 0, expected > 0)
            (gradient,) = torch.autograd.grad(weights, leaf, vector)
            scale_of_gradient = expected_gradient.abs().max().clamp(min=1).item()
            assert_close(gradient.double(), expected_gradient, rtol=0, atol=40 * epsilon * scale_of_gradient)


def test_small_weights_of_large_alpha_are_not_0():
    weights = entmax(torch.tensor([[0.0, -0.3294790983200073]]), alpha=4.0)
    assert_close(weights, torch.tensor([[0.9961, 0.0039]]), rtol=0, atol=5e-5)
    # Where two small weights stand beside a large one, they move against each other by p^(2 - alpha).
    row = torch.tensor([0.0, -5e-7, -5e-7], requires_grad=True)
    weights = entmax(row, alpha=30.0)
    (gradient,) = torch.autograd.grad(weights[1], row)
    assert gradient[1].item() > 1e19
    assert_close(gradient[1].item(), weights[1].item() ** -28 / 2, rtol=1e-4, atol=0)
    assert_close(gradient[2], -gradient[1], rtol=1e-4, atol=0)


@pytest.mark.parametrize("alpha", [2.5, 8.0, 30.0])
def test_the_derivative_by_a_large_alpha_is_that_of_many_digits(alpha):
    row = [0.0, -0.01, -0.02, -0.5]
    with mpmath.workdps(200):
        step = mpmath.mpf(10) ** -30
        plus, minus = (weights_of_many_digits(row, alpha + sign * step, 1.0) for sign in (1, -1))
        expected = floats((high - low) / (2 * step) for high, low in zip(plus, minus, strict=True))
    scores = torch.tensor(row, dtype=torch.float64)
    derivative = torch.func.jacfwd(lambda alpha: entmax(scores, alpha=alpha))(torch.tensor(alpha, dtype=torch.float64))
    assert_close(derivative, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("alpha", [1.25, 1.5, 3.0])
def test_the_weights_are_those_of_a_convex_solver(alpha):
    for seed in range(4):
        row = 2 * random_scores(6, seed=seed)
        weights = cvxpy.Variable(6)
        omega = (cvxpy.sum(cvxpy.power(weights, alpha)) - cvxpy.sum(weights)) / (alpha * (alpha - 1))
        objective = cvxpy.Maximize(row.numpy() @ weights - 0.7 * omega)
        problem = cvxpy.Problem(objective, [weights >= 0, cvxpy.sum(weights) == 1])
        problem.solve(solver=cvxpy.CLARABEL)
        operator = Entmax(gamma=0.7, alpha=alpha)
        assert_close(operator(row), torch.from_numpy(weights.value), rtol=0, atol=1e-4)
        # (The solver's own weights may be below 0 by its tolerance, where it knows no value of theirs.)
        expected = torch.from_numpy(weights.value).clamp(min=0)
        value = (row @ expected - 0.7 * operator.omega(expected)).item()
        assert_close(operator.value(row).item(), value, rtol=0, atol=1e-6)


def test_alpha_1_is_softmax_and_alpha_2_is_sparsemax():
    scores, mask = 2 * random_scores(50, 9), random_mask(50, 9)
    for alpha, function in ((1, softmax), (2, sparsemax), (1.0, softmax), (2.0, sparsemax)):
        expected = function(scores, mask, gamma=0.7)
        assert torch.equal(entmax(scores, mask, gamma=0.7, alpha=alpha), expected)
        # A tensor goes through the solver for all alpha.
        assert_close(entmax(scores, mask, gamma=0.7, alpha=torch.tensor(float(alpha))), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("length", [1, 2, 1000, 20000])
def test_long_rows_and_ties_keep_the_precision_of_the_dtype(dtype, length):
    alphas = torch.tensor([1.0, 1.0001, 1.3, 1.5, 1.9, 2.0, 3.0, 7.0], dtype=dtype).unsqueeze(-1)
    uniform = entmax(torch.zeros(8, length, dtype=dtype), alpha=alphas)
    # How much a sum of 20,000 loses depends on how wide the machine's vectors are: by four numbers it was 267 eps.
    assert_close(uniform, torch.full_like(uniform, 1 / length), rtol=400 * torch.finfo(dtype).eps, atol=0)
    scores = 5 * random_scores(8, length, dtype=dtype)
    weights = entmax(scores, alpha=alphas)
    assert_close(weights.double().sum(-1), torch.ones(8, dtype=torch.float64), rtol=0, atol=torch.finfo(dtype).eps * 8)
    assert_close(entmax(scores[3], alpha=1.5), weights[3], rtol=0, atol=4 * torch.finfo(dtype).eps)


def test_one_alpha_and_gamma_for_each_head():
    scores, mask = random_scores(2, 3, 4, 5), random_mask(2, 1, 1, 5)
    alphas, gammas = torch.tensor([1.0, 1.4, 2.0]).view(3, 1, 1), torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1)
    operator = Entmax(gammas, alphas)
    weights, value = operator(scores, mask), operator.value(scores, mask)
    for head in range(3):
        alone = Entmax(gammas[head].item(), alphas[head].double().item())
        assert_close(weights[:, head], alone(scores[:, head], mask[:, 0]), rtol=0, atol=1e-6)
        assert_close(value[:, head], alone.value(scores[:, head], mask[:, 0]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("of_value", [False, True])
def test_derivatives_by_scores_gamma_and_alpha_are_those_of_finite_differences(masked, of_value):
    scores = random_scores(4, 5).requires_grad_()
    mask = random_mask(4, 5) if masked else None
    gamma = torch.tensor([[0.7], [1.0], [2.0], [0.5]], dtype=torch.float64, requires_grad=True)
    alpha = torch.tensor([[1.05], [1.4], [1.9], [2.3]], dtype=torch.float64, requires_grad=True)

    def run(scores, gamma, alpha):
        return Entmax(gamma, alpha).value(scores, mask) if of_value else entmax(scores, mask, -1, gamma, alpha)

    assert gradcheck(run, (scores, gamma, alpha), check_forward_ad=True)
    assert gradgradcheck(run, (scores, gamma, alpha), check_fwd_over_rev=True, fast_mode=True)


@pytest.mark.parametrize("alpha", [1.25, 1.75])
def test_derivatives_at_a_number(alpha):
    scores = random_scores(4, 5).requires_grad_()
    for of_scores in (Entmax(alpha=alpha), Entmax(alpha=alpha).value):
        assert gradcheck(of_scores, (scores,), check_forward_ad=True)
        assert gradgradcheck(of_scores, (scores,))


@pytest.mark.parametrize("alpha", [1.0, 1 + 1e-5, 2.0])
def test_the_derivative_by_alpha_has_no_gap_at_softmax_and_sparsemax(alpha):
    scores = random_scores(6)
    derivative = torch.func.jacrev(lambda alpha: entmax(scores, alpha=alpha))(torch.tensor(alpha, dtype=scores.dtype))
    step = 1e-5
    # One-sided, to the second order: there is nothing below 1.
    at = [entmax(scores, alpha=torch.tensor(alpha + k * step, dtype=scores.dtype)) for k in range(3)]
    assert_close(derivative, (-3 * at[0] + 4 * at[1] - at[2]) / (2 * step), rtol=0, atol=1e-8)


@pytest.mark.parametrize("alpha", [1.0, 1.3, 1.5, 2.0, 3.0])
def test_omega_slope_is_the_derivative_of_omega_by_alpha(alpha):
    weights = torch.tensor([[0.2, 0.0, 0.8], [1.0, 0.0, 0.0]], dtype=torch.float64)
    step = 1e-5
    omegas = [Entmax(alpha=alpha + k * step).omega(weights) for k in range(3)]
    slope = (-3 * omegas[0] + 4 * omegas[1] - omegas[2]) / (2 * step)
    assert_close(Entmax(alpha=alpha).omega_slope(weights), slope, rtol=0, atol=1e-8)


@pytest.mark.parametrize("alpha", [1.3, 2.0, 3.0])
def test_omega_has_its_slope_at_0_too(alpha):
    weights = torch.tensor([0.0, 0.4, 0.6], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(Entmax(alpha=alpha).omega(weights), weights)
    expected = (alpha * weights.detach() ** (alpha - 1) - 1) / (alpha * (alpha - 1))
    assert_close(slope, expected)


@pytest.mark.parametrize("power", [0, 1])
def test_exponential_moment_is_the_integral(power):
    t = (torch.arange(100000, dtype=torch.float64) + 0.5) / 100000
    for x in (-40.0, -3.0, -0.5, -0.4999, -1e-3, -1e-9, 0.0, 0.3):
        moment = exponential_moment(power, torch.tensor(x, dtype=torch.float64))
        assert_close(moment, (t**power * (x * t).exp()).mean(), rtol=1e-7, atol=0)


def test_learned_parameters_move_and_stay_within_their_bounds():
    operator = Entmax(gamma=0.5, alpha=1.5, learn_gamma=True, learn_alpha=True)
    assert sorted(name for name, _ in operator.named_parameters()) == ["log_gamma", "logit_alpha"]
    optimizer = torch.optim.SGD(operator.parameters(), lr=50.0)
    scores = random_scores(8, 5, dtype=torch.float32)
    for _ in range(3):
        optimizer.zero_grad()
        operator(scores)[:, 0].square().sum().backward()
        optimizer.step()
    learned = operator.learned_regularization()
    assert set(learned) == {"gamma", "alpha"}
    assert learned["alpha"] != 1.5 and 1 <= learned["alpha"] <= 2
    assert learned["gamma"] != 0.5 and learned["gamma"] >= 0


def test_a_learned_alpha_stays_below_its_bound():
    for max_alpha in (2.0, 3.0):
        operator = Entmax(alpha=1.5, learn_alpha=True, max_alpha=max_alpha)
        assert_close(operator.alpha.item(), 1.5, rtol=1e-6, atol=0)
        optimizer = torch.optim.Adam(operator.parameters(), lr=0.2)
        scores = torch.tensor([[1.0, 0.8, 0.6], [0.5, 0.4, -2.0]])
        for _ in range(300):
            optimizer.zero_grad()
            (-operator(scores)[:, 0]).sum().backward()
            optimizer.step()
        assert max_alpha - 0.2 < operator.alpha.item() <= max_alpha


def test_what_cannot_be_learned_between_the_bounds_is_named():
    with pytest.raises(ValueError, match=r"alpha must be above 1.0 and below max_alpha = 2.0 to be .* is 2.5"):
        Entmax(alpha=2.5, learn_alpha=True)
    with pytest.raises(ValueError, match=r"max_alpha must be a finite number, above 1, but is 1"):
        Entmax(max_alpha=1)
    with pytest.raises(TypeError, match="max_alpha must be a number, but is tensor"):
        Entmax(max_alpha=torch.tensor(3.0))
    assert Entmax(alpha=2.5).alpha == 2.5


def test_function_transforms():
    alphas = torch.tensor(1.3, dtype=torch.float64)
    for alpha in (1.5, 1.3, alphas):
        check_function_transforms(lambda scores, alpha=alpha: entmax(scores, gamma=2.0, alpha=alpha))


@pytest.mark.parametrize("alpha", [1.3, 1.5, torch.tensor(1.7, requires_grad=True)], ids=str)
def test_torch_compile(alpha):
    check_compiled(lambda scores: entmax(scores, gamma=0.7, alpha=alpha))


def test_autocast():
    for alpha in (1.5, 1.3):
        check_autocast(Entmax(alpha=alpha))


@pytest.mark.parametrize("alpha", [1.3, torch.tensor(1.3)], ids=str)
def test_rows_without_a_solution(alpha):
    scores = random_scores(5, 4, dtype=torch.float32)
    scores[1, 2], scores[2, 1], scores[3], scores[4, 0] = math.nan, math.inf, -math.inf, -math.inf
    scores.requires_grad_()
    weights = entmax(scores, alpha=alpha)
    weights.square().sum().backward()
    assert weights.isnan().any(-1).tolist() == [False, True, True, False, False]
    assert weights[1:3].isnan().all()
    assert (weights[3] == 0).all() and (scores.grad[3] == 0).all()
    assert weights[4, 0] == 0 and scores.grad[4, 0] == 0
    assert scores.grad[[0, 3, 4]].isfinite().all()
    assert_close(weights[0], entmax(scores[0], alpha=alpha))


@pytest.mark.parametrize("wrong", [0.5, math.nan, math.inf])
def test_a_row_whose_alpha_is_out_of_range_is_nan(wrong):
    alphas = torch.tensor([[1.5], [wrong], [1.0]])
    weights = entmax(random_scores(3, 4), alpha=alphas)
    assert weights.isnan().all(-1).tolist() == [False, True, False]


@pytest.mark.parametrize("alpha", [0.99, 0, -1, math.nan, math.inf])
def test_alpha_must_be_a_finite_number_not_below_1(alpha):
    for build in (lambda: entmax(random_scores(3), alpha=alpha), lambda: Entmax(alpha=alpha)):
        with pytest.raises(ValueError, match=f"alpha.*{alpha}"):
            build()


@pytest.mark.parametrize("alpha", ["1.5", None, True, torch.tensor(2)])
def test_alpha_must_be_a_number_or_a_tensor_of_floating_point(alpha):
    for build in (lambda: entmax(random_scores(3), alpha=alpha), lambda: Entmax(alpha=alpha)):
        with pytest.raises(TypeError, match="alpha"):
            build()
    with pytest.raises(ValueError, match=r"alpha.*\(3, 1\).*\(2, 1\)"):
        entmax(random_scores(3, 4), alpha=torch.full((2, 1), 1.5))


def test_it_is_registered_and_shows_its_arguments():
    operator = RegularizedMax.from_params({"type": "entmax", "gamma": 2.0, "alpha": 1.25, "dim": 1})
    assert repr(operator) == "Entmax(gamma=2.0, alpha=1.25, dim=1)"
    assert Entmax().alpha == 1.5
