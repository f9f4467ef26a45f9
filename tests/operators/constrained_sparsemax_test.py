import itertools
import math
from functools import partial

import cvxpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from regattn_allennlp import ConstrainedSparsemax, RegularizedMax, constrained_sparsemax, fenchel_young_loss, sparsemax
from tests.operators.common import gammas, masked_rows, property_test, random_mask, random_scores
from tests.operators.transforms import check_autocast, check_compiled, check_function_transforms

EXACTLY = {"rtol": 0.0, "atol": 0.0}


def double(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def random_bounds(*shape, seed=3):
    return 0.1 + 0.4 * torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


EXAMPLES = [
    # sparsemax's weights are (0.9, 0.1, 0). The first gives 0.4 away: with threshold -0.05 the others get 0.25 each.
    (double(1.0, 0.2, 0.2), 0.5, 1.0, double(0.5, 0.25, 0.25)),
    # The second reaches its bound too.
    (double(1.0, 0.2, 0.2), double(0.5, 0.2, 0.5), 1.0, double(0.5, 0.2, 0.3)),
    # Two of four, wholly; two of which there are three.
    (double(3.0, -1.0, 2.0, 0.0), 1.0, 2.0, double(1.0, 0.0, 1.0, 0.0)),
    (double(3.0, 0.0, 0.0, -2.0), 1.0, 2.0, double(1.0, 0.5, 0.5, 0.0)),
    # The bounds hold no more than the budget, and less.
    (double(1.0, 0.0, -5.0, 9.0), 0.25, 1.0, double(0.25, 0.25, 0.25, 0.25)),
    (double(1.0, 0.0, -5.0), 0.25, 1.0, double(0.25, 0.25, 0.25)),
    # A bound of 0 is a mask.
    (double(1.0, 0.8, 0.6), double(0.0, 1.0, 1.0), 1.0, double(0.0, 0.6, 0.4)),
]


@pytest.mark.parametrize("scores, upper, budget, expected", EXAMPLES)
def test_by_hand(scores, upper, budget, expected):
    assert_close(constrained_sparsemax(scores, upper=upper, budget=budget), expected, rtol=0, atol=1e-15)
    weights = constrained_sparsemax(3 * scores + 7, gamma=3.0, upper=upper, budget=budget)
    assert_close(weights, expected, rtol=0, atol=1e-14)
    weights = constrained_sparsemax(scores, upper=upper, budget=double(budget))
    assert_close(weights, expected, rtol=0, atol=1e-15)


def by_enumeration(row, upper, budget):
    """Of all choices of what is 0, free and at its bound, the best that is allowed. (For gamma = 1.)"""
    best, best_value = upper, -math.inf
    for sets in itertools.product((0, 1, 2), repeat=len(row)):
        sets = torch.tensor(sets)
        weights = upper * (sets == 2)
        free = sets == 1
        if free.any():
            weights[free] = row[free] - row[free].mean() + (budget - weights.sum()) / free.sum()
        is_allowed = (weights >= -1e-12).all() and (weights <= upper + 1e-12).all()
        value = weights @ row - weights @ weights / 2
        if is_allowed and abs(weights.sum() - budget) < 1e-9 and value > best_value:
            best, best_value = weights, value
    return best


def test_the_weights_are_those_of_the_best_active_sets():
    for seed in range(60):
        row = random_scores(5, seed=seed) * (0.3, 1.0, 3.0)[seed % 3]
        upper = random_bounds(5, seed=seed)
        if seed % 4 == 0:  # ties and sums that are just the budget
            row, upper = row.round(), (4 * upper).ceil() / 4
        budget = (0.25, 0.75, 1.0)[seed % 3]
        weights = constrained_sparsemax(row, upper=upper, budget=budget)
        assert_close(weights, by_enumeration(row, upper, budget), rtol=0, atol=1e-14)


@pytest.mark.parametrize("budget", [0.5, 1.0, 2.0])
def test_weights_and_value_are_those_of_a_convex_solver(budget):
    for seed in range(8):
        row, upper = 2 * random_scores(9, seed=seed), random_bounds(9, seed=seed)
        weights = cvxpy.Variable(9)
        objective = cvxpy.Maximize(row.numpy() @ weights - 0.7 * cvxpy.sum_squares(weights) / 2)
        problem = cvxpy.Problem(objective, [weights >= 0, weights <= upper.numpy(), cvxpy.sum(weights) == budget])
        problem.solve(solver=cvxpy.CLARABEL, tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
        assert problem.status == cvxpy.OPTIMAL
        operator = ConstrainedSparsemax(gamma=0.7, upper=upper, budget=budget)
        assert_close(operator(row), torch.from_numpy(weights.value), rtol=0, atol=1e-8)
        assert_close(operator.value(row).item(), problem.objective.value, rtol=0, atol=1e-9)


@property_test
@given(data=st.data(), masked_row=masked_rows(), gamma=gammas, budget=st.floats(0.1, 4))
def test_the_weights_meet_the_optimality_conditions(data, masked_row, gamma, budget):
    row, mask = masked_row
    bounds = st.one_of(st.integers(0, 2).map(float), st.floats(0.05, 2))
    upper = torch.tensor(data.draw(st.lists(bounds, min_size=len(row), max_size=len(row))), dtype=torch.float64)
    weights = constrained_sparsemax(row, mask, gamma=gamma, upper=upper, budget=budget)
    assert (weights >= 0).all() and (weights <= upper).all() and (weights[~mask] == 0).all()
    total = min(budget, upper[mask].sum().item())
    assert_close(weights.sum().item(), total, rtol=0, atol=1e-11)
    # None below its bound could have been raised in the place of one above 0.
    slopes = row / gamma - weights
    can_rise, can_fall = mask & (weights < upper - 1e-12), mask & (weights > 1e-12)
    if total == budget and can_rise.any() and can_fall.any():
        assert slopes[can_rise].max() <= slopes[can_fall].min() + 1e-10

    permutation = torch.tensor(data.draw(st.permutations(range(len(row)))))
    permuted = constrained_sparsemax(
        row[permutation], mask[permutation], gamma=gamma, upper=upper[permutation], budget=budget
    )
    assert_close(permuted, weights[permutation], rtol=0, atol=1e-12)


@property_test
@given(masked_row=masked_rows(), gamma=gammas)
def test_a_bound_and_a_budget_of_1_are_sparsemax(masked_row, gamma):
    row, mask = masked_row
    results = []
    for function in (sparsemax, constrained_sparsemax):
        leaf = row.clone().requires_grad_()
        weights = function(leaf, mask, gamma=gamma)
        results.append((weights, *torch.autograd.grad(weights, leaf, row.cos())))
    assert_close(results[1][0], results[0][0], rtol=0, atol=1e-14)
    if not ((results[0][0] > 0) & (results[0][0] < 1e-12)).any():
        assert_close(results[1][1], results[0][1], rtol=0, atol=1e-12)


def test_a_row_too_short_for_the_budget_beside_a_long_one():
    scores, mask = random_scores(2, 5), torch.tensor([[True] * 5, [True, True, False, False, False]])
    for upper in (0.3, torch.full((2, 5), 0.3, dtype=torch.float64)):
        weights = constrained_sparsemax(scores, mask, upper=upper)
        assert_close(weights.sum(-1), double(1.0, 0.6))
        assert_close(weights[1], double(0.3, 0.3, 0.0, 0.0, 0.0))


def test_in_a_corner_the_scores_move_nothing_and_budget_and_bounds_do():
    # Both at their bounds, in a tie: small changes of the scores change nothing.
    scores = double(1.0, 1.0, -3.0, -3.0).requires_grad_()
    for upper in (double(0.5, 0.5, 0.5, 0.5), 0.5):
        jacobian = torch.func.jacrev(partial(constrained_sparsemax, upper=upper))(scores)
        assert_close(jacobian, torch.zeros(4, 4, dtype=torch.float64), **EXACTLY)
    # The last one to reach its bound makes room.
    scores = double(3.0, 0.0, 2.0, -1.0)

    def weights(upper, budget):
        return constrained_sparsemax(scores, upper=upper, budget=budget)

    by_upper, by_budget = torch.autograd.functional.jacobian(weights, (torch.ones(4).double(), double(2.0)))
    assert_close(by_budget.squeeze(-1), double(0.0, 0.0, 1.0, 0.0), **EXACTLY)
    expected = torch.zeros(4, 4, dtype=torch.float64)
    expected[0, 0], expected[2, 0] = 1, -1
    assert_close(by_upper, expected, **EXACTLY)
    # Ten times 0.1 is a budget of 1 in every dtype, though not its last digit.
    for dtype in (torch.float32, torch.float64):
        scores = torch.zeros(1, 12, dtype=dtype).requires_grad_()
        with_gap = scores - torch.tensor([0.0] * 10 + [3.0] * 2, dtype=dtype)
        weights = constrained_sparsemax(with_gap, upper=0.1)
        (gradient,) = torch.autograd.grad(weights, scores, torch.arange(12, dtype=dtype).view(1, 12))
        assert_close(weights, torch.tensor([[0.1] * 10 + [0.0] * 2], dtype=dtype), rtol=1e-6, atol=0)
        assert (gradient == 0).all()


def test_low_scores_share_what_the_others_cannot_hold():
    # Of a mask that is added to the scores, with too little beside it; so low that a bound is beyond their digits.
    for dtype in (torch.float32, torch.float64):
        for lowest in (torch.finfo(dtype).min, -1e30, -1e9, -1e4):
            scores = torch.tensor([lowest, 1.0, 0.9, lowest, -torch.inf], dtype=dtype)
            for upper in (0.3, torch.full((5,), 0.3)):
                weights = constrained_sparsemax(scores, upper=upper)
                expected = torch.tensor([0.2, 0.3, 0.3, 0.2, 0.0], dtype=dtype)
                assert_close(weights, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_long_rows_keep_the_precision_of_the_dtype(dtype):
    scores = 5 * random_scores(4, 10000)
    wide = constrained_sparsemax(scores.to(dtype).double(), gamma=2.0, upper=0.0117)
    weights = constrained_sparsemax(scores.to(dtype), gamma=2.0, upper=0.0117)
    assert ((wide == 0.0117).sum(-1) > 20).all() and ((wide > 0) & (wide < 0.0117)).any(-1).all()
    assert_close(weights.double(), wide, rtol=0, atol=4 * torch.finfo(dtype).eps)
    assert_close(weights.sum(-1), torch.ones(4, dtype=dtype), rtol=0, atol=20 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("of_value", [False, True])
@pytest.mark.parametrize("bounds_shape", [(3, 6), (6,), (3, 1), ()])
def test_derivatives_by_all_arguments_are_those_of_finite_differences(of_value, bounds_shape):
    scores, mask = random_scores(3, 6).requires_grad_(), random_mask(3, 6)
    mask[1, 2:] = False  # a row that cannot hold the budget
    gamma = double(1.7, 1.0, 2.0).view(3, 1).requires_grad_()
    upper = (2 * random_bounds(*bounds_shape)).requires_grad_()
    budget = double(0.7, 1.5, 0.9).view(3, 1).requires_grad_()

    def run(scores, gamma, upper, budget):
        operator = ConstrainedSparsemax(gamma, upper, budget)
        return operator.value(scores, mask) if of_value else operator(scores, mask)

    weights = run(scores, gamma, upper, budget)
    if not of_value:
        assert (weights == upper)[mask].any() and ((weights > 0) & (weights < upper)).any()
    inputs = (scores, gamma, upper, budget)
    assert gradcheck(run, inputs, check_forward_ad=True, check_batched_grad=True)
    assert gradgradcheck(run, inputs, check_fwd_over_rev=True, check_batched_grad=True)


def test_the_gradient_of_the_value_is_the_weights_for_large_scores_too():
    scores = 1e4 + random_scores(20, 8, dtype=torch.float32)
    for upper in (0.3, torch.tensor(0.3)):
        operator = ConstrainedSparsemax(upper=upper, budget=2.0)
        leaf = scores.clone().requires_grad_()
        operator.value(leaf).sum().backward()
        assert_close(leaf.grad, operator(scores), rtol=0, atol=1e-5)
        assert_close(operator.value(leaf).double(), operator.value(leaf.double()), rtol=1e-6, atol=0)


def test_function_transforms():
    check_function_transforms(lambda scores: constrained_sparsemax(scores, gamma=2.0, upper=0.4).square())


def test_transforms_of_bounds():
    scores, upper = random_scores(4, 5), random_bounds(4, 5)

    def weights(row, bounds):
        return constrained_sparsemax(row, upper=bounds, budget=0.8)

    expected = torch.stack([weights(row, bounds) for row, bounds in zip(scores, upper, strict=True)])
    assert_close(torch.func.vmap(weights)(scores, upper), expected)
    assert_close(torch.func.vmap(weights, in_dims=(None, 0))(scores[0], upper)[1], weights(scores[0], upper[1]))

    def value(upper):
        return ConstrainedSparsemax(upper=upper, budget=0.8).value(scores).sum()

    hessian = torch.func.hessian(value)(upper)
    assert hessian.abs().sum() > 0
    assert_close(hessian, torch.autograd.functional.hessian(value, upper))
    assert_close(torch.func.jacfwd(torch.func.jacfwd(value))(upper), hessian)
    for transform in (torch.func.grad(value), torch.func.hessian(value)):
        torch._dynamo.reset()
        assert_close(torch.compile(transform, backend="aot_eager", fullgraph=True)(upper), transform(upper))


@pytest.mark.parametrize("bounds", [0.3, torch.tensor(0.3, requires_grad=True)], ids=["number", "tensor"])
def test_torch_compile(bounds):
    check_compiled(lambda scores: constrained_sparsemax(scores, gamma=0.7, upper=bounds, budget=1.2))


def test_autocast():
    check_autocast(ConstrainedSparsemax(upper=0.3))


@pytest.mark.parametrize("wrong", [-0.1, math.nan, -math.inf])
def test_a_row_with_a_wrong_bound_is_nan_and_no_other(wrong):
    scores, mask = random_scores(3, 4), random_mask(3, 4)
    mask[:2, 2] = torch.tensor([True, False])
    upper = random_bounds(3, 4)
    expected = constrained_sparsemax(scores, mask, upper=upper)
    upper[:2, 2] = wrong  # masked in the second row
    leaf, upper = scores.requires_grad_(), upper.requires_grad_()
    weights = constrained_sparsemax(leaf, mask, upper=upper)
    gradients = torch.autograd.grad(weights.square().sum(), (leaf, upper))
    assert weights[0].isnan().equal(mask[0]) and gradients[0][0].isnan().equal(mask[0])
    assert_close(weights[1:], expected[1:], **EXACTLY)
    assert all(gradient[1:].isfinite().all() for gradient in gradients)
    assert ConstrainedSparsemax(upper=upper).value(leaf, mask).isnan().tolist() == [True, False, False]


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
def test_a_row_with_a_wrong_budget_is_nan_and_no_other(wrong):
    scores, budget = random_scores(2, 4).requires_grad_(), double(wrong, 1.0).view(2, 1)
    weights = constrained_sparsemax(scores, upper=0.4, budget=budget)
    (gradient,) = torch.autograd.grad(weights.square().sum(), scores)
    assert weights[0].isnan().all() and gradient[0].isnan().all()
    assert_close(weights[1], constrained_sparsemax(scores[1], upper=0.4), **EXACTLY)
    assert gradient[1].isfinite().all()


def test_no_bound():
    scores, upper, budget = double(2.0, 1.5, -1.0), double(math.inf, math.inf, math.inf), 3.0
    weights = constrained_sparsemax(scores, upper=upper, budget=budget)
    assert_close(weights, double(1.75, 1.25, 0.0), rtol=0, atol=1e-15)
    leaf = upper.clone().requires_grad_()
    value = ConstrainedSparsemax(upper=leaf, budget=budget).value(scores)
    assert_close(torch.autograd.grad(value, leaf)[0], torch.zeros(3, dtype=torch.float64), **EXACTLY)
    assert_close(value, scores @ weights - weights.square().sum() / 2)


def test_the_loss_is_that_of_weights_with_bounds_and_a_budget():
    scores, mask = random_scores(6, 5).requires_grad_(), random_mask(6, 5)
    mask[2, 2:] = False
    for upper in (0.6, 2 * random_bounds(6, 5)):
        operator = ConstrainedSparsemax(gamma=0.7, upper=upper, budget=1.2)
        weights, target = operator(scores, mask), operator(scores.detach().flip(0) / 2, mask)
        losses = fenchel_young_loss(scores, target, operator, mask, reduction="none")
        assert (losses >= 0).all() and losses.max() > 0.01
        (gradient,) = torch.autograd.grad(losses.sum(), scores, retain_graph=True)
        assert_close(gradient, weights - target, rtol=0, atol=1e-12)
        assert fenchel_young_loss(scores, weights, operator, mask).item() == pytest.approx(0, abs=1e-12)


def test_the_loss_of_a_target_that_cannot_be_is_infinite_and_its_gradient_finite():
    scores = random_scores(2, 4).requires_grad_()
    target = double(0.5, 0.5, 0.0, 0.0, 0.25, 0.25, 0.25, 0.25).view(2, 4)
    operator = ConstrainedSparsemax(upper=0.3)
    losses = fenchel_young_loss(scores, target, operator, reduction="none")
    assert losses[0] == math.inf and losses[1].isfinite()
    assert torch.autograd.grad(losses[1] + losses[0], scores)[0].isfinite().all()
    assert (fenchel_young_loss(scores, torch.tensor([0, 1]), operator, reduction="none") == math.inf).all()
    indices = fenchel_young_loss(scores, torch.tensor([0, 1]), ConstrainedSparsemax(), reduction="none")
    assert indices.isfinite().all()
    with pytest.raises(ValueError, match=r"sum 2 along dim -1, but one has sum 1"):
        fenchel_young_loss(scores, target, ConstrainedSparsemax(budget=2.0))


def test_learned_gamma_and_bounds():
    bounds = torch.nn.Parameter(torch.tensor([0.3, 0.2, 0.5, 0.4]))
    operator = ConstrainedSparsemax(gamma=3.0, upper=bounds, learn_gamma=True)
    assert {name for name, _ in operator.named_parameters()} == {"log_gamma", "_upper"}
    operator(random_scores(3, 4, dtype=torch.float32)).square().sum().backward()
    assert operator.log_gamma.grad.abs() > 0 and bounds.grad.abs().sum() > 0
    other = operator.with_regularization(gamma=0.5)
    assert other.gamma == 0.5 and torch.equal(other.upper, bounds)
    other.upper, other.budget = 0.4, 0.8
    assert_close(other(random_scores(3, 4)), constrained_sparsemax(random_scores(3, 4), None, -1, 0.5, 0.4, 0.8))


@pytest.mark.parametrize("name", ["upper", "budget"])
@pytest.mark.parametrize("wrong", [0, -0.5, math.nan, math.inf])
def test_bounds_and_budgets_are_finite_numbers_above_0(name, wrong):
    for build in (lambda: constrained_sparsemax(random_scores(3), **{name: wrong}),
                  lambda: ConstrainedSparsemax(**{name: wrong}),
                  lambda: setattr(ConstrainedSparsemax(), name, wrong)):  # fmt: skip
        with pytest.raises(ValueError, match=f"{name} must be a finite number, above 0, but is {wrong}"):
            build()


@pytest.mark.parametrize("name", ["upper", "budget"])
def test_other_wrong_arguments_are_named(name):
    for wrong in ("0.3", None, True, torch.tensor(1)):
        with pytest.raises(TypeError, match=name):
            ConstrainedSparsemax(**{name: wrong})
    with pytest.raises(ValueError, match=rf"{name} must broadcast.*has shape \(2, 7\)"):
        constrained_sparsemax(random_scores(2, 3), **{name: torch.ones(2, 7)})
    with pytest.raises(ValueError, match=r"budget must broadcast to the shape \(2, 1\)"):
        constrained_sparsemax(random_scores(2, 3), budget=torch.ones(2, 3))


def test_along_any_dimension():
    scores, upper = random_scores(2, 4, 3), random_bounds(4, 1)
    weights = constrained_sparsemax(scores, dim=1, upper=upper, budget=torch.tensor([[0.5]]))
    expected = constrained_sparsemax(scores.mT, upper=upper.squeeze(-1), budget=0.5)
    assert_close(weights, expected.mT)
    operator = ConstrainedSparsemax(upper=upper, budget=torch.tensor([[0.5]]), dim=1)
    assert_close(operator.value(scores), ConstrainedSparsemax(upper=upper.squeeze(-1), budget=0.5).value(scores.mT))


def test_half_precision_and_meta_tensors():
    scores, upper = random_scores(3, 5, dtype=torch.bfloat16), random_bounds(5).bfloat16()
    weights = constrained_sparsemax(scores, upper=upper)
    assert weights.dtype == torch.bfloat16
    assert torch.equal(weights, constrained_sparsemax(scores.float(), upper=upper.float()).bfloat16())
    operator = ConstrainedSparsemax(upper=torch.ones(5, device="meta"))
    assert (
        operator(torch.empty(2, 5, device="meta")).is_meta and operator.value(torch.empty(2, 5, device="meta")).is_meta
    )


def test_it_is_registered_and_shows_its_arguments():
    operator = RegularizedMax.from_params({"type": "constrained_sparsemax", "upper": 0.3})
    assert repr(operator) == "ConstrainedSparsemax(upper=0.3, budget=1.0, gamma=1.0, dim=-1)"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("length", [1, 3, 20])
@pytest.mark.parametrize("upper", [0.1, 0.25, 1.0, 1e9])
@pytest.mark.parametrize("budget", [0.3, 1.0, 2.5])
def test_numbers_are_solved_as_tensors_are(dtype, length, upper, budget):
    """By a kernel, and by PyTorch's own operations: ties, corners, gaps, bounds that cannot hold the budget."""
    scores = torch.cat([scale * random_scores(20, length, dtype=dtype) for scale in (0.1, 1, 5, 100)])
    scores[::4] = scores[::4].round()
    if length > 1:
        scores[1, 0], scores[2, 1], scores[3, 0] = -1e30, torch.finfo(dtype).min, -torch.inf
    mask, upstream = random_mask(80, length), random_scores(80, length, seed=1, dtype=dtype)
    mask[5] = False
    results = []
    for gamma, rows in ((0.7, scores), (torch.tensor(0.7, dtype=torch.float64), scores.double())):
        leaf = rows.clone().requires_grad_()
        weights = constrained_sparsemax(leaf, mask, gamma=gamma, upper=upper, budget=budget)
        gradient = torch.autograd.grad(weights, leaf, upstream.to(leaf.dtype))[0]
        results.append((weights.detach().double(), gradient.double()))
    tolerance = 20 * torch.finfo(dtype).eps
    assert_close(*results, rtol=tolerance, atol=tolerance * max(1, budget))
