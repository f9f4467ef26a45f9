"""The kernels for the GPU of entmax, squared p-norm max and normmax; see `gpu_test.py`."""

import functools
import math
import sys

import mpmath
import numpy as np
import pytest
import torch

pytest.importorskip("triton")

from regattn_allennlp.operators.kernels import cpu
from tests.operators.kernels.gpu_test import TOLERANCE, random_rows
from tests.operators.kernels.interpreter import DEVICE, ON_GPU

# The interpreter computes what `where` then does not choose.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow|divide by zero) encountered:RuntimeWarning")

ALPHAS = [1.0, 1 + 1e-12, 1.01, 1.25, 1.5, 1.9, 2.0, 2.01, 3.0, 10.0]
EXPONENTS = [1.1, 1.5, 1.9, 2.0]
EXPONENTS_OF_NORMMAX = [1.3, 1.5, 2.0, 3.0, 10.0]


# --- oracles: one row, no mask, 30 digits or more ---


def root(function):
    """Of an increasing function, between 0 and 1; as exact as mpmath is."""
    low, high = mpmath.mpf(0), mpmath.mpf(1)
    for _ in range(mpmath.mp.prec):
        middle = (low + high) / 2
        low, high = (middle, high) if function(middle) < 0 else (low, middle)
    return high


@functools.cache
def entmax_oracle(row, alpha):
    with mpmath.workdps(30 + int(15 * alpha) if alpha > 10 else 30):  # what is left of differences is rooted
        order = mpmath.mpf(alpha) - 1
        if order == 0:
            powers = [mpmath.exp(value) for value in row]
            return [float(power / sum(powers)) for power in powers]

        def weights(largest):
            bases = [largest**order + order * mpmath.mpf(value) for value in row]
            return [base ** (1 / order) if base > 0 else mpmath.mpf(0) for base in bases]

        return [float(weight) for weight in weights(root(lambda largest: sum(weights(largest)) - 1))]


@functools.cache
def norm_oracle(row, exponent, is_squared=True):
    with mpmath.workdps(30):
        exponent = mpmath.mpf(exponent)
        dual = exponent / (exponent - 1)

        def falls(largest):
            return [max(largest + mpmath.mpf(value), 0) for value in row]

        def excess(largest):
            norm = sum(fall**dual for fall in falls(largest)) ** (1 / dual)
            if not is_squared:
                return norm - 1
            return norm ** (2 - dual) * sum(fall ** (dual - 1) for fall in falls(largest)) - 1

        powers = [fall ** (dual - 1) if fall > 0 else mpmath.mpf(0) for fall in falls(root(excess))]
        return [float(power / sum(powers)) for power in powers]


def jacobian_matrix(weights, hessian):
    """From the Hessian of Omega on the support, where the weights move so that their sum stays the same."""
    matrix = np.zeros((len(weights), len(weights)))
    support = np.flatnonzero(weights)
    if len(support) > 1:
        basis = np.eye(len(support))[:, 1:] - 1 / len(support)
        block = hessian(weights[support])
        matrix[np.ix_(support, support)] = basis @ np.linalg.solve(basis.T @ block @ basis, basis.T)
    return matrix


def entmax_hessian(alpha):
    return lambda weights: np.diag(weights ** (alpha - 2))


def norm_hessian(exponent):
    def hessian(weights):
        norm = (weights**exponent).sum() ** (1 / exponent)
        slopes = weights ** (exponent - 1)
        rank_1 = (2 - exponent) * norm ** (2 - 2 * exponent) * np.outer(slopes, slopes)
        return rank_1 + np.diag((exponent - 1) * norm ** (2 - exponent) * weights ** (exponent - 2))

    return hessian


def unsquared_norm_hessian(exponent):
    def hessian(weights):
        ratios = weights / (weights**exponent).sum() ** (1 / exponent)
        slopes = ratios ** (exponent - 1)
        return (exponent - 1) * (np.diag(ratios ** (exponent - 2)) - np.outer(slopes, slopes)) * ratios[0] / weights[0]

    return hessian


class Entmax:
    """alpha is a number, or a list of one for each row."""

    oracle = staticmethod(entmax_oracle)
    hessian = staticmethod(entmax_hessian)

    @staticmethod
    def numbers(alpha, dtype):
        return (alpha, None) if isinstance(alpha, float) else (0.0, torch.tensor(alpha, dtype=dtype, device=DEVICE))

    @staticmethod
    def solve(gpu, scores, mask, gamma, alpha):
        may_exceed_2 = max(alpha) > 2 if isinstance(alpha, list) else alpha > 2
        return gpu.entmax_rows(scores, mask, gamma, *Entmax.numbers(alpha, scores.dtype), may_exceed_2)

    @staticmethod
    def multiply(gpu, vector, weights, alpha):
        return gpu.entmax_jacobian_rows(vector, weights, *Entmax.numbers(alpha, vector.dtype))


class SquaredPNormMax:
    oracle = staticmethod(norm_oracle)
    hessian = staticmethod(norm_hessian)

    @staticmethod
    def solve(gpu, scores, mask, gamma, exponent):
        return gpu.squared_p_norm_max_rows(scores, mask, gamma, exponent)

    @staticmethod
    def multiply(gpu, vector, weights, exponent):
        return gpu.squared_p_norm_jacobian_rows(vector, weights, exponent)


class Normmax:
    oracle = functools.partial(norm_oracle, is_squared=False)
    hessian = staticmethod(unsquared_norm_hessian)

    @staticmethod
    def solve(gpu, scores, mask, gamma, exponent):
        return gpu.normmax_rows(scores, mask, gamma, exponent)

    @staticmethod
    def multiply(gpu, vector, weights, exponent):
        return gpu.normmax_jacobian_rows(vector, weights, exponent)


EVERY_SHAPE = [
    *((Entmax, alpha) for alpha in ALPHAS),
    *((SquaredPNormMax, exponent) for exponent in EXPONENTS),
    *((Normmax, exponent) for exponent in EXPONENTS_OF_NORMMAX),
]
every_shape = pytest.mark.parametrize("operator, shape", EVERY_SHAPE)
some_shapes = pytest.mark.parametrize(
    "operator, shape",
    [
        (Entmax, 1.0),
        (Entmax, 1.25),
        (Entmax, 1.5),
        (Entmax, 3.0),
        (SquaredPNormMax, 1.5),
        (Normmax, 1.5),
        (Normmax, 3.0),
    ],
)


def solve(gpu, operator, scores, mask, gamma, shape):
    weights = operator.solve(gpu, scores.to(DEVICE), None if mask is None else mask.to(DEVICE), gamma, shape)
    assert weights.dtype == scores.dtype and weights.shape == scores.shape
    return weights.cpu()


def multiply(gpu, operator, vector, weights, shape):
    product = operator.multiply(gpu, vector.to(DEVICE), weights.to(DEVICE), shape)
    assert product.dtype == vector.dtype and product.shape == vector.shape
    return product.cpu()


def check_against_oracle(gpu, operator, scores, mask, gamma, shape):
    weights = solve(gpu, operator, scores, mask, gamma, shape)
    vector = random_rows(*scores.shape, seed=1, dtype=scores.dtype)
    products = multiply(gpu, operator, vector, weights, shape)
    tolerance = TOLERANCE[scores.dtype]
    included = scores.isfinite().numpy() if mask is None else (mask & scores.isfinite()).numpy()
    for row in range(len(scores)):
        row_shape = shape[row] if isinstance(shape, list) else shape
        expected = np.zeros(scores.size(1))
        inside = included[row]
        if inside.any():
            values = scores[row].double().numpy()[inside]
            expected[inside] = operator.oracle(tuple((values - values.max()) / gamma), row_shape)
        np.testing.assert_allclose(weights[row].double(), expected, rtol=0, atol=tolerance)
        if scores.dtype == torch.float64:
            np.testing.assert_array_equal(weights[row] > 1e-15, expected > 1e-15)
            matrix = jacobian_matrix(weights[row].numpy(), operator.hessian(row_shape))
            # Small weights have products much larger or smaller than others' and inverses that are less exact.
            np.testing.assert_allclose(products[row], matrix @ vector[row].numpy(), rtol=1e-7, atol=1e-8)


@every_shape
def test_weights_and_jacobian_by_bisection(gpu, operator, shape):
    scores = random_rows(6, 6, seed=2)
    mask = torch.from_numpy(np.random.default_rng(0).random(scores.shape) < 0.7)
    check_against_oracle(gpu, operator, scores, None, 0.7, shape)
    check_against_oracle(gpu, operator, scores.float(), mask, 0.5, shape)
    check_against_oracle(gpu, operator, scores[:3].masked_fill(~mask[:3], -math.inf), None, 2.0, shape)


@pytest.mark.parametrize("length", [1, 5, 20])
def test_an_alpha_for_each_row(gpu, length):
    alphas = [1.0, 1.2, 1.5, 1.99, 2.0] * 2
    check_against_oracle(gpu, Entmax, random_rows(10, length, seed=3), None, 0.9, alphas)
    alphas = [1.0, 1.2, 2.0, 2.5, 6.0] * 2
    check_against_oracle(gpu, Entmax, random_rows(10, length, seed=4), None, 0.9, alphas)


@some_shapes
def test_ties(gpu, operator, shape):
    scores = torch.from_numpy(np.random.default_rng(0).integers(-2, 3, size=(6, 6)).astype(float))
    check_against_oracle(gpu, operator, scores, None, 1.37, shape)
    equal = torch.full((2, 300), 7.0)
    torch.testing.assert_close(solve(gpu, operator, equal, None, 0.1, shape), torch.full((2, 300), 1 / 300))


@pytest.mark.parametrize("alpha", [2.5, 3.0, 12.0])
def test_small_weights_above_2_come_from_tiny_differences(gpu, alpha):
    # The second largest score is the least in the support, by almost nothing; then almost in it; and both tiny.
    least = 1 / (alpha - 1) - 2.0 ** -np.arange(20, 50, 10)
    scores = np.concatenate([np.stack([np.zeros(3), -least], axis=1), [[1e-30, 0.0], [0.0, -1e-200]]])
    check_against_oracle(gpu, Entmax, torch.from_numpy(scores), None, 1.0, alpha)


@some_shapes
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(gpu, operator, shape, dtype):
    scores, vector = random_rows(9, 37, seed=5, dtype=dtype), random_rows(9, 37, seed=6, dtype=dtype)
    mask = torch.from_numpy(np.random.default_rng(0).random(scores.shape) < 0.8)
    weights = solve(gpu, operator, scores, mask, 0.9, shape)
    expected = solve(gpu, operator, scores.double(), mask, 0.9, shape)
    # The interpreter rounds bfloat16 towards zero.
    rounding = 0.55 if ON_GPU or dtype == torch.float16 else 1.05
    torch.testing.assert_close(weights.double(), expected, rtol=rounding * torch.finfo(dtype).eps, atol=1e-6)
    if shape <= 2:  # above, products are larger than float16 has numbers
        product = multiply(gpu, operator, vector, weights, shape)
        expected = multiply(gpu, operator, vector.double(), weights.double(), shape)
        torch.testing.assert_close(product.double(), expected, rtol=1.1 * torch.finfo(dtype).eps, atol=1e-5)


@some_shapes
def test_rows_without_a_solution_spoil_no_other_row(gpu, operator, shape):
    scores = random_rows(12, 5, seed=2)
    mask = torch.ones(scores.shape, dtype=torch.bool)
    mask[:, 3] = False
    clean = solve(gpu, operator, scores, mask, 1.0, shape)
    scores[1, 0], scores[4, 2], scores[6, 1] = math.nan, math.inf, -math.nan
    scores[7, 3], scores[8, 3] = math.nan, math.inf  # masked: harmless
    scores[9] = -math.inf
    mask[10] = False
    scores[10, 0] = math.nan
    spoilt, empty, harmless = [1, 4, 6], [9, 10], [0, 2, 3, 5, 7, 8, 11]
    weights = solve(gpu, operator, scores, mask, 1.0, shape)
    torch.testing.assert_close(weights[harmless], clean[harmless], rtol=0, atol=0)
    assert (weights[empty] == 0).all()
    assert (weights[spoilt].isnan() == mask[spoilt]).all()
    vector = random_rows(12, 5, seed=3)
    vector[weights == 0] = math.nan
    product = multiply(gpu, operator, vector, weights, shape)
    assert (product[spoilt].isnan() == mask[spoilt]).all()
    assert product[harmless + empty].isfinite().all()
    assert (product[weights == 0] == 0).all()


@pytest.mark.parametrize("bad", [0.99, -1.0, math.nan, math.inf])
@pytest.mark.parametrize("good", [1.5, 3.0])
def test_a_row_whose_alpha_is_no_number_from_1_on_spoils_no_other(gpu, good, bad):
    scores = random_rows(3, 5, seed=2)
    scores[:, 1] = -math.inf
    clean = solve(gpu, Entmax, scores, None, 1.0, [good] * 3)
    weights = solve(gpu, Entmax, scores, None, 1.0, [good, bad, good])
    torch.testing.assert_close(weights[[0, 2]], clean[[0, 2]], rtol=0, atol=0)
    assert (weights[1].isnan() == (scores[1] != -math.inf)).all()
    alone = solve(gpu, Entmax, scores[1:2], None, 1.0, bad)
    assert (alone.isnan() == (scores[1:2] != -math.inf)).all()


@every_shape
def test_scores_far_apart(gpu, operator, shape):
    largest = torch.finfo(torch.float32).max
    scores = torch.tensor([[largest, -largest, 0.0], [1e30, 1e30, -1e30], [1e-30, 0.0, 0.0], [-1e38, -1e38, -3e38]])
    for gamma in (1e-300, 1e-30, 1.0, 1e30, 1e300):
        weights = solve(gpu, operator, scores, None, gamma, shape)
        torch.testing.assert_close(weights.sum(1), torch.ones(4))
        product = multiply(gpu, operator, scores / 1e6, weights, shape)
        assert not product.isnan().any()
    weights = solve(gpu, operator, scores, None, 1.0, shape)
    torch.testing.assert_close(weights[:2], torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0]]))


@pytest.mark.parametrize("exponent", [1.02, 30.0, 1000.0])
def test_normmax_by_powers_that_overflow(gpu, exponent):
    scores, vector = random_rows(5, 12, seed=2), random_rows(5, 12, seed=3)
    for dtype in (torch.float64, torch.float32):
        weights = solve(gpu, Normmax, scores.to(dtype), None, 0.7, exponent)
        expected = cpu.normmax_rows(scores.to(dtype), None, 0.7, exponent)
        torch.testing.assert_close(weights, expected, rtol=0, atol=TOLERANCE[dtype])
        product = multiply(gpu, Normmax, vector.to(dtype), expected, exponent)
        expected = cpu.normmax_jacobian_rows(vector.to(dtype), expected, exponent)
        tolerance = 1e-9 if dtype == torch.float64 else 1e-5
        torch.testing.assert_close(product, expected, rtol=tolerance, atol=tolerance)


def test_weights_that_sum_to_1_in_rows_of_many(gpu):
    scores = random_rows(2, 3000, seed=0, dtype=torch.float32)
    for operator, shape in [
        (Entmax, 1.0),
        (Entmax, 1.3),
        (Entmax, 1.5),
        (Entmax, 2.0),
        (SquaredPNormMax, 1.3),
        (Normmax, 1.3),
    ]:
        for gamma in (0.1, 1.0, 1000.0):
            weights = solve(gpu, operator, scores, None, gamma, shape).double()
            torch.testing.assert_close(weights.sum(1), torch.ones(2).double(), rtol=0, atol=1e-6)
            expected = solve(gpu, operator, scores.double(), None, gamma, shape)
            torch.testing.assert_close(weights, expected, rtol=0, atol=2e-6)


def test_newton_steps_are_few(gpu, monkeypatch):
    if ON_GPU:
        pytest.skip("only Triton's interpreter lets them be counted")
    module = sys.modules[gpu.entmax_rows.__module__]
    rounds = []
    sums = module._tile_sums
    monkeypatch.setattr(module, "_tile_sums", lambda *arguments: rounds.append(1) or sums(*arguments))
    length = 60
    positions = torch.arange(length, dtype=torch.float64)
    rows = torch.stack([random_rows(1, length, seed=0)[0], -positions / length, -(0.5**positions)])
    for (operator, shape), most in zip(EVERY_SHAPE, [1, *[12] * 6, *[40] * 3, *[20] * 9], strict=True):
        for dtype in (torch.float64, torch.float32):
            for row in rows.to(dtype):
                for gamma in (0.01, 3.0):
                    rounds.clear()
                    solve(gpu, operator, row.unsqueeze(0), None, gamma, shape)
                    assert len(rounds) <= most, (operator, shape, gamma)


def test_no_rows_and_no_positions(gpu):
    for shape in [(0, 5), (3, 0), (0, 0)]:
        scores = torch.empty(shape)
        for operator, parameter in EVERY_SHAPE:
            assert solve(gpu, operator, scores, None, 1.0, parameter).shape == shape
            assert multiply(gpu, operator, scores, scores, parameter).shape == shape


# --- the gradient by alpha ---


def change_of_slope(weight, alpha):
    """Of (p^(alpha - 1) - 1) / (alpha - 1), with alpha."""
    with mpmath.workdps(60):
        weight, order = mpmath.mpf(weight), mpmath.mpf(alpha) - 1
        if order == 0:
            return float(mpmath.log(weight) ** 2 / 2)
        return float((weight**order * (order * mpmath.log(weight) - 1) + 1) / order**2)


def alpha_gradient(gradient, weights, alpha):
    """That of one row, by the definition; what has weight 0 has no part in it."""
    terms = zip(gradient.tolist(), weights.tolist(), strict=True)
    return -sum(number * change_of_slope(weight, alpha) for number, weight in terms if weight != 0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_gradient_by_alpha_is_that_of_the_definition(gpu, dtype):
    alphas = torch.tensor([1.0, 1 + 1e-12, 1 + 1e-6, 1.01, 1.3, 1.5, 2.0, 3.0, 10.0], dtype=dtype)
    row = torch.tensor([1e-30, 1e-8, 0.0, 0.01, 0.1, 0.2, 0.3, 0.39, 1.0], dtype=dtype)
    tolerance = 1e-13 if dtype == torch.float64 else 2e-6
    # All weights of a row, and each alone.
    for weights in (row.repeat(9, 1), *(row * unit for unit in torch.eye(9, dtype=dtype))):
        weights = weights.expand(9, 9).contiguous()
        gradient = random_rows(9, 9, seed=1, dtype=dtype).masked_fill(weights == 0, math.nan)
        result = gpu.entmax_alpha_gradient_rows(
            gradient.to(DEVICE), weights.to(DEVICE), alphas.unsqueeze(1).to(DEVICE)
        ).cpu()
        assert result.dtype == dtype and result.shape == (9, 1)
        expected = [alpha_gradient(*arguments) for arguments in zip(gradient, weights, alphas.tolist(), strict=True)]
        expected = torch.tensor(expected, dtype=torch.float64)
        torch.testing.assert_close(result.flatten().double(), expected, rtol=tolerance, atol=0)


def test_the_gradient_by_alpha_of_rows_without_a_solution_spoils_no_other(gpu):
    alphas = torch.tensor([[1.5], [1.5], [0.5], [1.5]], device=DEVICE)
    gradient, scores = random_rows(4, 20, seed=1, dtype=torch.float32), random_rows(4, 20, seed=2, dtype=torch.float32)
    scores[1, 3], scores[3] = math.nan, -math.inf
    weights = gpu.entmax_rows(scores.to(DEVICE), None, 1.0, 0.0, alphas, False)
    first, second, third, fourth = gpu.entmax_alpha_gradient_rows(gradient.to(DEVICE), weights, alphas).flatten()
    assert first.isfinite() and second.isnan() and third.isnan() and fourth == 0
    for shape in [(0, 5), (3, 0), (0, 0)]:
        empty, alphas = torch.empty(shape, device=DEVICE), torch.full((shape[0], 1), 1.5, device=DEVICE)
        assert torch.equal(gpu.entmax_alpha_gradient_rows(empty, empty, alphas), torch.zeros_like(alphas))
