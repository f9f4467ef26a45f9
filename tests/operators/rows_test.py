"""Shapes, dimensions, dtypes, masks, rows without a solution, and errors: the same for every operator."""

import inspect
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import regattn_allennlp
from regattn_allennlp import RegularizedMax
from tests.operators.common import DENSE_ONLY, NAMES, build, every_operator, random_mask, random_scores

EXACTLY = {"rtol": 0.0, "atol": 0.0}
nan = math.nan
inf = math.inf


def function(name):
    return getattr(regattn_allennlp, name)


def weights_and_gradient(operator, scores, mask=None):
    """The gradient is that of the sum of the squared weights."""
    scores = scores.detach().requires_grad_()
    weights = operator(scores, mask)
    weights.square().sum().backward()
    return weights.detach(), scores.grad


@every_operator
@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5), (2, 1, 3, 5), (2, 1, 2, 3, 5)])
def test_any_number_of_leading_dimensions(name, shape):
    scores, mask = random_scores(*shape), random_mask(*shape)
    weights = function(name)(scores, mask)
    assert weights.shape == scores.shape
    rows_and_masks = zip(scores.view(-1, 5), mask.view(-1, 5), strict=True)
    by_row = [function(name)(row, its_mask) for row, its_mask in rows_and_masks]
    assert_close(weights.view(-1, 5), torch.stack(by_row), **EXACTLY)


@every_operator
@pytest.mark.parametrize("dim", [0, 1, 2, -1, -2, -3])
def test_any_dimension(name, dim):
    scores, mask = random_scores(3, 4, 5), random_mask(3, 4, 5)
    operator = build(name, dim=dim)
    moved = weights_and_gradient(build(name), scores.movedim(dim, -1), mask.movedim(dim, -1))
    expected = tuple(tensor.movedim(-1, dim) for tensor in moved)
    assert_close(weights_and_gradient(operator, scores, mask), expected)
    value = operator.value(scores, mask)
    assert value.shape == tuple(size for position, size in enumerate(scores.shape) if position != dim % 3)
    assert_close(value, build(name).value(scores.movedim(dim, -1), mask.movedim(dim, -1)))


@every_operator
@pytest.mark.parametrize("dim", [3, -4])
def test_a_dimension_that_scores_do_not_have(name, dim):
    with pytest.raises(IndexError, match=str(dim)):
        function(name)(random_scores(3, 4, 5), dim=dim)


@every_operator
@pytest.mark.parametrize("shape", [(), (5,), (1, 5), (3, 1), (2, 1, 1), (1, 3, 5), (2, 3, 5)])
def test_a_mask_broadcasts_to_the_scores(name, shape):
    scores = random_scores(2, 3, 5)
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 2 / 3
    mask_in_full = mask.expand(2, 3, 5).clone()
    operator = build(name)
    expected = weights_and_gradient(operator, scores, mask_in_full)
    assert_close(weights_and_gradient(operator, scores, mask), expected, **EXACTLY)
    assert_close(operator.value(scores, mask), operator.value(scores, mask_in_full), **EXACTLY)


@every_operator
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_float32_rounded(name, dtype):
    scores, mask = random_scores(4, 7, dtype=dtype), random_mask(4, 7)
    operator = build(name, gamma=0.7)
    weights = operator(scores, mask)
    assert weights.dtype == dtype
    assert_close(weights, operator(scores.float(), mask).to(dtype), **EXACTLY)
    value = operator.value(scores, mask)
    assert value.dtype == dtype
    assert_close(value, operator.value(scores.float(), mask).to(dtype), **EXACTLY)

    upstream = random_scores(4, 7, seed=1, dtype=dtype)
    gradients = []
    for leaf in (scores.clone().requires_grad_(), scores.float().requires_grad_()):
        operator(leaf, mask).backward(upstream.to(leaf.dtype))
        gradients.append(leaf.grad)
    assert gradients[0].dtype == dtype
    assert_close(gradients[0], gradients[1].to(dtype), **EXACTLY)


@every_operator
def test_float32_is_float64_rounded(name):
    scores, mask = random_scores(4, 7, dtype=torch.float32), random_mask(4, 7)
    operator = build(name, gamma=0.7)
    single = weights_and_gradient(operator, scores, mask)
    double = weights_and_gradient(operator, scores.double(), mask)
    assert single[0].dtype == single[1].dtype == operator.value(scores, mask).dtype == torch.float32
    assert double[0].dtype == double[1].dtype == operator.value(scores.double(), mask).dtype == torch.float64
    assert_close(single, tuple(tensor.float() for tensor in double))


@every_operator
def test_scores_and_upstream_gradients_need_not_be_contiguous(name):
    transposed = random_scores(5, 4).t()
    every_second = random_scores(4, 10)[:, ::2]
    expanded = random_scores(1, 5).expand(4, 5)
    for scores in (transposed, every_second, expanded):
        expected = weights_and_gradient(build(name), scores.clone(memory_format=torch.contiguous_format))
        assert_close(weights_and_gradient(build(name), scores), expected, **EXACTLY)
        mask = random_mask(5, 4).t()
        assert_close(build(name)(scores, mask), build(name)(scores, mask.contiguous()), **EXACTLY)

        leaf = scores.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(build(name)(leaf), leaf, transposed)
        (expected_gradient,) = torch.autograd.grad(build(name)(leaf), leaf, transposed.contiguous())
        assert_close(gradient, expected_gradient, **EXACTLY)


@every_operator
def test_the_inputs_are_left_as_they_are(name):
    scores, mask = random_scores(3, 5), random_mask(3, 5)
    scores_before, mask_before = scores.clone(), mask.clone()
    build(name)(scores, mask)
    build(name).value(scores, mask)
    assert torch.equal(scores, scores_before)
    assert torch.equal(mask, mask_before)


@every_operator
@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0,), (2, 0, 3)])
def test_scores_without_elements(name, shape):
    scores = torch.zeros(shape, requires_grad=True)
    mask = torch.ones(shape, dtype=torch.bool)
    for dim in range(len(shape)):
        operator = build(name, dim=dim)
        weights, value = operator(scores, mask), operator.value(scores, mask)
        assert weights.shape == scores.shape
        assert torch.equal(value, torch.zeros(shape[:dim] + shape[dim + 1 :]))
        (weights.sum() + value.sum()).backward()
        assert scores.grad.shape == shape


@every_operator
def test_rows_of_length_one(name):
    scores = torch.tensor([[-3.0], [0.0], [1e6]], dtype=torch.float64)
    weights, gradient = weights_and_gradient(build(name), scores)
    assert torch.equal(weights, torch.ones(3, 1, dtype=torch.float64))
    assert torch.equal(gradient, torch.zeros(3, 1, dtype=torch.float64))
    omega = {"softmax": 0.0, "entmax": 0.0, "normmax": 1.0}.get(name, 0.5)
    assert_close(build(name, gamma=2.0).value(scores), scores.squeeze(-1) - 2.0 * omega)


@every_operator
@pytest.mark.parametrize("score", [1.0, nan, inf, -inf])
def test_a_row_with_nothing_in_the_problem_is_zero_and_has_zero_gradients(name, score):
    scores = random_scores(2, 3, 4)
    mask = random_mask(2, 3, 4)
    scores[0, 1] = score
    mask[0, 1] = False
    scores[1, 2] = -inf
    for operator in (build(name), build(name).value):
        result, gradient = weights_and_gradient(operator, scores, mask)
        for row in ((0, 1), (1, 2)):
            assert (result[row] == 0).all()
            assert (gradient[row] == 0).all()
            assert (result[mask.any(-1) & (scores != -inf).any(-1)] != 0).any()
        assert gradient.isfinite().all()


@every_operator
def test_no_nan_arises_on_the_way_to_the_zero_gradients_of_what_is_masked(name):
    scores = torch.tensor([[0.5, nan, 0.2], [0.1, inf, nan], [-inf, 1.0, -inf]])
    mask = torch.tensor([[True, False, True], [False, False, False], [True, False, True]])
    for operator in (build(name), build(name).value):
        with torch.autograd.set_detect_anomaly(True):
            weights_and_gradient(operator, scores, mask)


@every_operator
@pytest.mark.parametrize("score", [nan, inf])
def test_nan_and_infinity_spoil_their_own_row_and_no_other(name, score):
    scores, mask = random_scores(3, 5), random_mask(3, 5)
    mask[1] = torch.tensor([True, True, False, True, True])
    expected = weights_and_gradient(build(name), scores, mask)
    expected_value = build(name).value(scores, mask)
    scores[1, 3] = score

    weights, gradient = weights_and_gradient(build(name), scores, mask)
    assert weights[1].isnan().equal(mask[1])
    assert (weights[1, ~mask[1]] == 0).all()
    assert gradient[1].isnan().equal(mask[1])
    assert (gradient[1, ~mask[1]] == 0).all()
    assert_close((weights[::2], gradient[::2]), (expected[0][::2], expected[1][::2]), **EXACTLY)

    value, value_gradient = weights_and_gradient(build(name).value, scores, mask)
    assert value.isnan().tolist() == [False, True, False]
    assert_close(value[::2], expected_value[::2], **EXACTLY)
    assert value_gradient[::2].isfinite().all()


@every_operator
@pytest.mark.parametrize("score", [nan, inf, -inf, 1e300])
def test_a_masked_score_does_no_harm_whatever_it_is(name, score):
    scores, mask = random_scores(3, 5), random_mask(3, 5)
    mask[:, 2] = False
    for operator in (build(name), build(name).value):
        expected = weights_and_gradient(operator, scores, mask)
        harmful = scores.clone()
        harmful[:, 2] = score
        assert_close(weights_and_gradient(operator, harmful, mask), expected, **EXACTLY)


@every_operator
@pytest.mark.parametrize("gamma", [0, 0.0, -1.5, nan, inf, -inf])
def test_gamma_must_be_a_finite_number_above_zero(name, gamma):
    with pytest.raises(ValueError, match=f"gamma.*{gamma}"):
        function(name)(random_scores(3), gamma=gamma)
    with pytest.raises(ValueError, match=f"gamma.*{gamma}"):
        build(name, gamma=gamma)


@pytest.mark.parametrize("name", ["fusedmax", "oscarmax"])
@pytest.mark.parametrize("lam", [-1e-9, -2, nan, inf, -inf])
def test_lam_must_be_a_finite_number_not_below_zero(name, lam):
    with pytest.raises(ValueError, match=f"lam.*{lam}"):
        function(name)(random_scores(3), lam=lam)
    with pytest.raises(ValueError, match=f"lam.*{lam}"):
        build(name, lam=lam)


@every_operator
@pytest.mark.parametrize("gamma", [0.99, 1e-3, 1e-30])
def test_a_low_score_is_in_the_problem_for_every_kind_of_gamma(name, gamma):
    """The lowest number of the dtype stands in masks that are added to scores. Only -inf is no score at all."""
    lowest = torch.finfo(torch.float32).min
    scores = torch.tensor([[1.0, 0.9, lowest, 0.95, 0.8], [3e38, 1.0, 2.0, lowest, lowest]])
    upstream = random_scores(2, 5, dtype=torch.float32)
    results = []
    for given in (gamma, torch.tensor(gamma), torch.tensor(gamma, requires_grad=True)):
        leaf = scores.clone().requires_grad_()
        operator = build(name, gamma=given, lam=0.1)
        weights, value = operator(leaf), operator.value(leaf)
        gradients = torch.autograd.grad((weights * upstream).sum() + value.sum(), leaf)
        results.append((weights.detach(), value.detach(), *gradients))
        if isinstance(given, torch.Tensor) and given.requires_grad:
            weights, value = operator(leaf), operator.value(leaf)
            (gradient,) = torch.autograd.grad((weights * upstream).sum() + value.sum(), given)
            assert gradient.isfinite()
    assert_close(results[1], results[0])
    assert_close(results[2], results[0])
    # So low that its distance does not count any more, but the neighbours on both sides of it are none of each other.
    farther = scores.double().clamp(min=-1e5, max=1e5)
    assert_close(results[0][0].double(), build(name, gamma=gamma)(farther), rtol=0, atol=1e-5)


def test_the_neighbours_of_a_low_score_do_not_meet():
    scores = torch.tensor([[1.0, 0.9, torch.finfo(torch.float32).min, 0.95, 0.8]])
    expected = torch.tensor([[0.2884, 0.2874, 0.0, 0.2121, 0.2121]])
    for gamma in (0.99, torch.tensor(0.99)):
        assert_close(regattn_allennlp.fusedmax(scores, gamma=gamma, lam=0.1), expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lam", [1e10, 1e38, 1e300, 1e307])
def test_a_lam_of_any_size(dtype, lam):
    scores = torch.tensor([[1.0, 2.0, -3.0, 0.5], [-inf, -inf, -inf, -inf]], dtype=dtype)
    uniform = torch.tensor([[0.25] * 4, [0.0] * 4], dtype=dtype)
    for name, value in (("fusedmax", 0.125 - 0.125), ("oscarmax", -1.5 * lam)):
        operator = build(name, lam=lam)
        leaf = scores.clone().requires_grad_()
        values = operator.value(leaf)
        assert_close(operator(scores), uniform, rtol=1e-6, atol=0)
        # (-1.5 lam is beyond float32.)
        assert_close(values, torch.tensor([value, 0.0], dtype=torch.float64).to(dtype), rtol=1e-6, atol=1e-6)
        assert_close(torch.autograd.grad(values.sum(), leaf)[0], uniform, rtol=1e-6, atol=0)
        # A class of which the loss is told: it has a weight of 1 in place of 1/4.
        loss = regattn_allennlp.fenchel_young_loss(scores[:1], torch.tensor([1]), operator).item()
        expected = 2 * lam if name == "fusedmax" else 1.5 * lam
        assert_close(loss, torch.tensor(expected, dtype=torch.float64).to(dtype).item(), rtol=1e-6, atol=3)


@every_operator
def test_a_gamma_of_any_size(name):
    scores = torch.tensor([[1.0, 2.0, -3.0, 0.5], [2.0, -inf, -inf, -inf], [-inf, -inf, -inf, -inf]])
    operator = build(name, gamma=1e300)
    values = operator.value(scores)
    assert_close(operator(scores)[0], torch.full((4,), 0.25))
    assert values[2] == 0
    if name in ("softmax", "entmax"):  # of one weight alone Omega is 0
        assert values[1] == 2


@pytest.mark.parametrize("number", [Fraction(3, 4), np.float32(0.75), np.float64(0.75), np.float16(0.75)], ids=repr)
def test_every_kind_of_number_is_a_number(number):
    scores = random_scores(2, 5)
    for name in NAMES:
        assert_close(function(name)(scores, gamma=number), function(name)(scores, gamma=0.75), **EXACTLY)
        operator = build(name, gamma=number)
        assert operator.gamma == 0.75 and type(operator.gamma) is float
        assert_close(operator.value(scores), build(name, gamma=0.75).value(scores), **EXACTLY)
    for name in ("fusedmax", "oscarmax"):
        assert_close(function(name)(scores, lam=number), function(name)(scores, lam=0.75), **EXACTLY)
        operator = build(name, lam=number)
        assert_close(operator.value(scores), build(name, lam=0.75).value(scores), **EXACTLY)
        learned = RegularizedMax.by_name(name)(lam=number, learn_lam=True, gamma=number, learn_gamma=True)
        assert_close(learned.lam.item(), 0.75, rtol=1e-6, atol=0)
        assert operator.with_regularization(lam=number).lam == 0.75
    entmax, p_norm_max = regattn_allennlp.entmax, regattn_allennlp.squared_p_norm_max
    assert_close(entmax(scores, alpha=number + 1), entmax(scores, alpha=1.75), **EXACTLY)
    assert_close(p_norm_max(scores, exponent=number + 1), p_norm_max(scores, exponent=1.75), **EXACTLY)
    assert_close(regattn_allennlp.softmax(scores, dim=np.int64(0)), regattn_allennlp.softmax(scores, dim=0), **EXACTLY)


@pytest.mark.parametrize("value", [Fraction(10) ** 400, 10**400], ids=["fraction", "int"])
def test_a_number_beyond_all_floats_is_not_finite(value):
    with pytest.raises(ValueError, match="gamma must be a finite number"):
        regattn_allennlp.softmax(random_scores(3), gamma=value)


@every_operator
@pytest.mark.parametrize("dim", [None, (0, 1), True, 1.0, "last"], ids=repr)
def test_dim_must_be_one_whole_number(name, dim):
    for call in (lambda: function(name)(random_scores(2, 3), dim=dim), lambda: build(name, dim=dim)):
        with pytest.raises(TypeError, match="dim must be a whole number") as error:
            call()
        assert repr(dim) in str(error.value)


@every_operator
def test_a_wrong_argument_is_told_with_the_operators_own_name(name):
    operator = RegularizedMax.by_name(name)
    with pytest.raises(TypeError, match=rf"{operator.__name__}\.__init__\(\).*'lambda_'"):
        operator(lambda_=0.1)


@pytest.mark.parametrize("value", ["0.5", None, True, [1.0]])
def test_gamma_and_lam_must_be_numbers(value):
    for name in NAMES:
        with pytest.raises(TypeError, match=f"gamma.*{type(value).__name__}"):
            function(name)(random_scores(3), gamma=value)
    for name in ("fusedmax", "oscarmax"):
        with pytest.raises(TypeError, match=f"lam.*{type(value).__name__}"):
            function(name)(random_scores(3), lam=value)


@every_operator
@pytest.mark.parametrize("dtype", [torch.int64, torch.float32, torch.uint8])
def test_a_mask_must_be_bool(name, dtype):
    for operator in (function(name), build(name), build(name).value):
        with pytest.raises(TypeError, match=f"mask.*{dtype}"):
            operator(random_scores(2, 3), torch.ones(2, 3, dtype=dtype))
        with pytest.raises(TypeError, match=r"mask.*list"):
            operator(random_scores(2), [True, False])


@every_operator
@pytest.mark.parametrize(
    "scores_shape, mask_shape",
    [((2, 3), (2,)), ((2, 3), (3, 3)), ((2, 3), (2, 4)), ((2, 3), (1, 2, 3)), ((1, 3), (2, 3)), ((2, 1), (2, 3))],
)
def test_a_mask_must_broadcast_to_the_scores_and_not_enlarge_them(name, scores_shape, mask_shape):
    for operator in (function(name), build(name), build(name).value):
        with pytest.raises(ValueError, match="mask") as error:
            operator(random_scores(*scores_shape), torch.ones(mask_shape, dtype=torch.bool))
        assert str(scores_shape) in str(error.value)
        assert str(mask_shape) in str(error.value)


@every_operator
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bool, torch.complex64])
def test_scores_must_be_floating_point(name, dtype):
    for operator in (function(name), build(name), build(name).value):
        with pytest.raises(TypeError, match=f"scores.*{dtype}"):
            operator(torch.ones(2, 3, dtype=dtype))


@every_operator
def test_scores_must_be_a_tensor_with_a_dimension(name):
    for operator in (function(name), build(name), build(name).value):
        with pytest.raises(TypeError, match=r"scores.*list"):
            operator([1.0, 2.0])
        with pytest.raises(ValueError, match="scores"):
            operator(torch.tensor(1.0))


@every_operator
def test_arguments_and_their_defaults(name):
    own = {"fusedmax": {"lam": 0.1}, "oscarmax": {"lam": 0.1}, "entmax": {"alpha": 1.5}}
    own |= {"squared_p_norm_max": {"exponent": 1.5}, "normmax": {"exponent": 2.0}}
    own |= {"constrained_sparsemax": {"upper": 1.0, "budget": 1.0}, "top_k_sparsemax": {"top_k": 8}}
    packed = {} if name in DENSE_ONLY else {"offsets": None}
    defaults = {"mask": None, "dim": -1, "gamma": 1.0} | own.get(name, {}) | packed
    parameters = inspect.signature(function(name)).parameters
    assert list(parameters) == ["scores", *defaults]
    assert {key: parameter.default for key, parameter in parameters.items() if key != "scores"} == defaults
