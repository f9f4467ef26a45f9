"""The operators against a convex solver, which is given the optimization problem and nothing else."""

import functools
import itertools

import cvxpy
import numpy as np
import pytest
import torch

from tests.operators.common import build

# The solver is not as exact on the entropy as it is on quadratic problems.
SOLVER_TOLERANCE = {"softmax": 1e-9, "sparsemax": 1e-12, "fusedmax": 1e-12, "oscarmax": 1e-12}
WEIGHT_TOLERANCE = {"softmax": 2e-5, "sparsemax": 1e-8, "fusedmax": 1e-8, "oscarmax": 1e-8}
VALUE_TOLERANCE = {"softmax": 1e-6, "sparsemax": 1e-9, "fusedmax": 1e-9, "oscarmax": 1e-9}

# The solver is slow and inexact on other powers than 2: entmax and squared_p_norm_max have tests of their own.
every_operator = pytest.mark.parametrize("name", SOLVER_TOLERANCE)


@functools.cache
def problem_of_length(name, length):
    """The problem with parameters to fill in: <p, x / gamma> - Omega(p) is to be as large as possible."""
    weights = cvxpy.Variable(length)
    scores = cvxpy.Parameter(length)
    lam = cvxpy.Parameter(nonneg=True)
    omega = -cvxpy.sum(cvxpy.entr(weights)) if name == "softmax" else cvxpy.sum_squares(weights) / 2
    if name == "fusedmax" and length > 1:
        omega += lam * cvxpy.sum(cvxpy.abs(weights[1:] - weights[:-1]))
    if name == "oscarmax" and length > 1:
        first, second = map(list, zip(*itertools.combinations(range(length), 2), strict=True))
        omega += lam * cvxpy.sum(cvxpy.maximum(weights[first], weights[second]))
    problem = cvxpy.Problem(cvxpy.Maximize(scores @ weights - omega), [weights >= 0, cvxpy.sum(weights) == 1])
    return problem, weights, scores, lam


def solve(name, row, gamma, lam):
    """The weights and the value for one row without masked positions."""
    problem, weights, scores_parameter, lam_parameter = problem_of_length(name, len(row))
    scores_parameter.value = (row - row.max()) / gamma
    lam_parameter.value = lam
    tolerance = SOLVER_TOLERANCE[name]
    problem.solve(solver=cvxpy.CLARABEL, tol_gap_abs=tolerance, tol_gap_rel=tolerance, tol_feas=tolerance)
    assert problem.status == cvxpy.OPTIMAL
    weights.value = weights.value.clip(min=0)  # a weight of -1e-13 has no entropy
    return weights.value, gamma * problem.objective.value + row.max()


def random_problem(length, seed):
    random = np.random.default_rng(seed)
    row = random.normal(size=length) * random.choice([0.3, 1.0, 3.0]) + random.choice([-5.0, 0.0, 0.0, 5.0])
    return row, random.choice([0.3, 1.0, 3.0]), random.choice([0.03, 0.1, 0.5, 1.0])


@every_operator
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("length", [1, 2, 3, 5, 8])
def test_weights_and_value_are_those_of_a_convex_solver(name, length, masked):
    for seed in range(40):
        row, gamma, lam = random_problem(length, seed)
        included = np.ones(length, dtype=bool)
        if masked:
            included = np.random.default_rng(seed).random(length) < 0.6
            included[seed % length] = True
        expected_weights = np.zeros(length)
        expected_weights[included], expected_value = solve(name, row[included], gamma, lam)

        operator = build(name, gamma, lam)
        mask = torch.from_numpy(included) if masked else None
        weights = operator(torch.from_numpy(row), mask)
        value = operator.value(torch.from_numpy(row), mask)
        np.testing.assert_allclose(weights, expected_weights, rtol=0, atol=WEIGHT_TOLERANCE[name])
        np.testing.assert_allclose(value, expected_value, rtol=0, atol=VALUE_TOLERANCE[name])


@pytest.mark.parametrize("name, length", [("sparsemax", 300), ("fusedmax", 300), ("oscarmax", 40)])
def test_longer_rows_agree_with_a_convex_solver(name, length):
    # Small steps between neighbours and a small lam give many blocks, and a large support.
    for seed in range(3):
        row = np.random.default_rng(seed).normal(size=length)
        expected_weights, expected_value = solve(name, row, gamma=5.0, lam=0.01)
        operator = build(name, gamma=5.0, lam=0.01)
        weights = operator(torch.from_numpy(row)).numpy()
        assert np.count_nonzero(weights) > 5
        np.testing.assert_allclose(weights, expected_weights, rtol=0, atol=WEIGHT_TOLERANCE[name])
        value = operator.value(torch.from_numpy(row))
        np.testing.assert_allclose(value, expected_value, rtol=0, atol=VALUE_TOLERANCE[name])
