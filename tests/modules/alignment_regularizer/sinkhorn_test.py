import itertools

import cvxpy
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from tests.modules.alignment_regularizer.common import HEAD_DIM, NUM_HEADS, build, move_together, points


def squared_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return ((first[:, None] - second[None]) ** 2).sum(-1)


def solved(costs: np.ndarray, epsilon: float) -> float:
    """OT by a convex solver."""
    num_rows, num_columns = costs.shape
    plan = cvxpy.Variable(costs.shape, nonneg=True)
    product = np.full(costs.shape, 1 / costs.size)
    # kl_div has - x + y besides, whose sum is 0 here.
    objective = cvxpy.sum(cvxpy.multiply(plan, costs)) + epsilon * cvxpy.sum(cvxpy.kl_div(plan, product))
    marginals = [cvxpy.sum(plan, axis=1) == 1 / num_rows, cvxpy.sum(plan, axis=0) == 1 / num_columns]
    return cvxpy.Problem(cvxpy.Minimize(objective), marginals).solve(solver=cvxpy.CLARABEL)


@pytest.mark.parametrize("epsilon", [0.05, 0.5])
def test_agrees_with_a_convex_solver(epsilon):
    queries, keys = points(batch_size=2, num_tokens=4, seed=3)
    mask = torch.tensor([[True] * 4, [True] * 3 + [False]])
    expected = 0.0
    for item, head in itertools.product(range(2), range(NUM_HEADS)):
        length = int(mask[item].sum())
        x, y = (one[item, head, :length].numpy() for one in (queries, keys))
        everything = np.concatenate([x, y])
        scale = squared_distances(everything, everything).mean()
        of_pair, of_x, of_y = (solved(squared_distances(*sets) / scale, epsilon) for sets in ((x, y), (x, x), (y, y)))
        expected += (of_pair - (of_x + of_y) / 2) / 2
    assert build("sinkhorn", epsilon=epsilon)(queries, keys, mask).item() == pytest.approx(expected, abs=1e-5)


def test_of_one_point_each_it_is_their_squared_distance():
    queries, keys = points(num_tokens=1)
    expected = (queries - keys).square().sum(-1).sum(1).mean() / 3
    torch.testing.assert_close(build("sinkhorn", scale=3.0)(queries, keys), expected)


def test_without_smoothing_it_is_the_best_assignment():
    queries, keys = points(batch_size=1, num_tokens=4)
    expected = 0.0
    for head in range(NUM_HEADS):
        costs = squared_distances(queries[0, head].numpy(), keys[0, head].numpy())
        expected += min(costs[range(4), order].mean() for order in itertools.permutations(range(4)))
    # Of a set with itself the best plan stays where it is.
    assert build("sinkhorn", epsilon=0.01, scale=1.0)(queries, keys).item() == pytest.approx(expected, rel=0.02)


def test_numbers_stay_finite_where_plans_are_sharp():
    torch.manual_seed(0)
    lengths = [24, 20, 3]
    queries, keys = (torch.randn(3, NUM_HEADS, 24, HEAD_DIM, requires_grad=True) for _ in range(2))
    mask = torch.arange(24) < torch.tensor(lengths)[:, None]
    distance = build("sinkhorn", epsilon=1e-3, scale=1.0, max_iterations=2000).float()(queries, keys, mask)
    expected = 0.0
    for (item, length), head in itertools.product(enumerate(lengths), range(NUM_HEADS)):
        costs = squared_distances(*(one[item, head, :length].detach().numpy() for one in (queries, keys)))
        expected += costs[linear_sum_assignment(costs)].mean() / len(lengths)
    assert distance.dtype == torch.float32 and distance.item() == pytest.approx(expected, rel=0.01)
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(distance, (queries, keys)))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), factor=st.floats(0.01, 100), order=st.permutations(range(5)))
def test_is_a_distance_of_sets_whatever_their_size(seed, factor, order):
    regularizer = build("sinkhorn")
    queries, keys = points(seed=seed)
    distance = regularizer(queries, keys)
    assert distance > 0
    assert regularizer(keys, queries).item() == pytest.approx(distance.item())
    assert regularizer(factor * queries, factor * keys).item() == pytest.approx(distance.item())
    assert regularizer(queries, queries[:, :, order]).item() == pytest.approx(0, abs=1e-9)


def test_ends_where_it_is_told_to():
    queries, keys = points(num_tokens=12)
    exact = build("sinkhorn")(queries, keys)
    rough = build("sinkhorn", tolerance=1e-3)(queries, keys)
    rougher = build("sinkhorn", max_iterations=1)(queries, keys)
    assert 0 < (rough - exact).abs() < 1e-3 < (rougher - exact).abs()


def test_two_clouds_move_together():
    regularizer = build("sinkhorn", num_heads=1, head_dim=HEAD_DIM, tolerance=1e-4)
    before, after = move_together(regularizer, num_steps=150, learning_rate=0.1)
    assert before > 2 and after < 0.02 * before
