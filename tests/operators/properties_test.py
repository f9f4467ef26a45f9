"""Properties that several operators have in common, on rows that hypothesis makes up."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from tests.operators.common import (
    build,
    every_operator,
    gammas,
    lams,
    masked_rows,
    omega_by_definition,
    property_test,
    rows,
)

TOLERANCE = {"rtol": 0.0, "atol": 1e-10}


def weights_and_gradient(operator, scores, mask=None, upstream=None):
    scores = scores.clone().requires_grad_()
    weights = operator(scores, mask)
    if upstream is None:
        upstream = torch.arange(1.0, weights.numel() + 1, dtype=weights.dtype).cos().view(weights.shape)
    weights.backward(upstream)
    return weights.detach(), scores.grad


@every_operator
@property_test
@given(masked_rows(), gammas, lams)
def test_weights_lie_on_the_simplex(name, masked_row, gamma, lam):
    row, mask = masked_row
    weights = build(name, gamma, lam)(row, mask)
    assert (weights >= 0).all()
    assert (weights[~mask] == 0).all()
    assert_close(weights.sum().item(), 1.0, **TOLERANCE)


@every_operator
@property_test
@given(masked_rows(), gammas, lams, st.floats(-100, 100))
def test_a_constant_added_to_the_scores_changes_nothing(name, masked_row, gamma, lam, constant):
    row, mask = masked_row
    operator = build(name, gamma, lam)
    assert_close(operator(row + constant, mask), operator(row, mask), **TOLERANCE)
    assert_close(operator.value(row + constant, mask), operator.value(row, mask) + constant, **TOLERANCE)


@every_operator
@property_test
@given(rows, gammas, lams)
def test_gamma_divides_the_scores(name, row, gamma, lam):
    assert_close(build(name, gamma, lam)(row), build(name, 1.0, lam)(row / gamma), **TOLERANCE)
    value_of_divided = build(name, 1.0, lam).value(row / gamma)
    assert_close(build(name, gamma, lam).value(row), gamma * value_of_divided, **TOLERANCE)


@pytest.mark.parametrize("name", ["fusedmax", "oscarmax"])
@pytest.mark.parametrize("lam", [0.0, 1e-13])
@property_test
@given(masked_row=masked_rows(), gamma=gammas)
def test_lam_0_and_lam_just_above_it_are_sparsemax(name, lam, masked_row, gamma):
    row, mask = masked_row
    assert_close(build(name, gamma, lam)(row, mask), build("sparsemax", gamma)(row, mask), **TOLERANCE)


@pytest.mark.parametrize("name", ["fusedmax", "oscarmax"])
@property_test
@given(masked_rows(), gammas)
def test_a_large_lam_gives_uniform_weights(name, masked_row, gamma):
    row, mask = masked_row
    # No difference that lam has to overcome is larger than this: all scores on one side of a step, all below it on
    # the other.
    lam = (row.max() - row.min()).item() / gamma * len(row) + 1.0
    assert_close(build(name, gamma, lam)(row, mask), mask / mask.sum(dtype=row.dtype), **TOLERANCE)


@pytest.mark.parametrize("name", ["softmax", "sparsemax", "oscarmax"])
@property_test
@given(data=st.data(), masked_row=masked_rows(), gamma=gammas, lam=lams)
def test_weights_move_with_permuted_scores(name, data, masked_row, gamma, lam):
    row, mask = masked_row
    permutation = torch.tensor(data.draw(st.permutations(range(len(row)))))
    operator = build(name, gamma, lam)
    weights, gradient = weights_and_gradient(operator, row, mask, upstream=row)
    permuted = weights_and_gradient(operator, row[permutation], mask[permutation], upstream=row[permutation])
    assert_close(permuted, (weights[permutation], gradient[permutation]), rtol=0.0, atol=1e-8)


@property_test
@given(masked_rows(), gammas, lams)
def test_fusedmax_weights_of_reversed_scores_are_reversed(masked_row, gamma, lam):
    row, mask = masked_row
    operator = build("fusedmax", gamma, lam)
    assert_close(operator(row.flip(0), mask.flip(0)), operator(row, mask).flip(0), **TOLERANCE)


@pytest.mark.parametrize("name", ["softmax", "sparsemax", "oscarmax"])
@property_test
@given(row=rows, gamma=gammas, lam=lams)
def test_a_larger_score_gets_no_smaller_weight(name, row, gamma, lam):
    row = row.sort().values
    weights = build(name, gamma, lam)(row)
    assert (weights.diff() >= -1e-15).all()
    assert_close(weights.diff()[row.diff() == 0], torch.zeros_like(row.diff()[row.diff() == 0]), rtol=0, atol=1e-15)


@every_operator
@property_test
@given(masked_rows(), gammas, lams)
def test_the_gradient_of_the_value_is_the_weights(name, masked_row, gamma, lam):
    row, mask = masked_row
    operator = build(name, gamma, lam)
    scores = row.clone().requires_grad_()
    operator.value(scores, mask).backward()
    assert torch.equal(scores.grad, operator(row, mask))


@every_operator
@property_test
@given(st.data(), rows, gammas, lams)
def test_no_point_of_the_simplex_exceeds_the_value_and_the_weights_attain_it(name, data, row, gamma, lam):
    operator = build(name, gamma, lam)
    value = operator.value(row).item()

    def objective(point):
        return (point @ row).item() - gamma * omega_by_definition(name, point.tolist(), lam)

    weights = operator(row)
    assert_close(objective(weights), value, **TOLERANCE)
    exponents = st.lists(st.floats(-6, 6), min_size=len(row), max_size=len(row))
    other = torch.softmax(torch.tensor(data.draw(exponents), dtype=row.dtype), dim=0)
    step = data.draw(st.floats(1e-4, 1))
    assert objective(weights + step * (other - weights)) <= value + 1e-10


@every_operator
@property_test
@given(masked_rows(), gammas, lams, st.sampled_from([0.0, 100.0, -100.0, math.nan, math.inf, -math.inf]))
def test_masked_positions_are_not_in_the_problem(name, masked_row, gamma, lam, score_behind_mask):
    row, mask = masked_row
    operator = build(name, gamma, lam)
    upstream = row.cos()
    weights, gradient = weights_and_gradient(operator, row.masked_fill(~mask, score_behind_mask), mask, upstream)
    alone = weights_and_gradient(operator, row[mask], None, upstream[mask])
    assert_close((weights[mask], gradient[mask]), alone, rtol=0.0, atol=1e-14)
    assert (weights[~mask] == 0).all()
    assert (gradient[~mask] == 0).all()
    value_alone = operator.value(row[mask])
    assert_close(operator.value(row.masked_fill(~mask, score_behind_mask), mask), value_alone, **TOLERANCE)


@every_operator
@property_test
@given(masked_rows(), gammas, lams)
def test_a_score_of_minus_infinity_counts_as_masked(name, masked_row, gamma, lam):
    row, mask = masked_row
    operator = build(name, gamma, lam)
    masked_by_score = row.masked_fill(~mask, -math.inf)
    expected = weights_and_gradient(operator, row, mask)
    assert_close(weights_and_gradient(operator, masked_by_score), expected, rtol=0.0, atol=0.0)
    assert torch.equal(operator.value(masked_by_score), operator.value(row, mask))


@every_operator
@property_test
@given(st.lists(rows, min_size=2, max_size=5), gammas, lams)
def test_a_row_does_not_depend_on_the_other_rows(name, batch, gamma, lam):
    # Shorter rows are filled up with masked positions.
    length = max(map(len, batch))
    scores = torch.stack([torch.nn.functional.pad(row, (0, length - len(row)), value=-math.inf) for row in batch])
    operator = build(name, gamma, lam)
    together = weights_and_gradient(operator, scores, upstream=scores.cos().nan_to_num())
    for position, row in enumerate(scores):
        alone = weights_and_gradient(operator, row, upstream=row.cos().nan_to_num())
        assert_close((together[0][position], together[1][position]), alone, rtol=0.0, atol=0.0)
