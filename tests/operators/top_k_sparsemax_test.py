import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

from regattn_allennlp import (
    RegularizedMax,
    TopKSparsemax,
    fenchel_young_loss,
    sparsemax,
    support_size,
    top_k_sparsemax,
)
from tests.operators.common import gammas, masked_rows, property_test, random_mask, random_scores
from tests.operators.transforms import check_autocast, check_compiled, check_function_transforms

top_ks = st.integers(1, 6)


@pytest.mark.parametrize(
    "scores, top_k, expected",
    [
        # sparsemax of all four has four weights.
        ([1.0, 0.9, 0.8, 0.95], 2, [0.525, 0.0, 0.0, 0.475]),
        ([1.0, 0.9, 0.8, 0.95], 1, [1.0, 0.0, 0.0, 0.0]),
        # Of equal scores the first.
        ([0.5, 1.0, 0.5, 0.5], 2, [0.25, 0.75, 0.0, 0.0]),
        ([1.0, 1.0, 1.0, 1.0], 3, [1 / 3, 1 / 3, 1 / 3, 0.0]),
        # More than there are.
        ([0.5, 0.7, -3.0], 7, [0.4, 0.6, 0.0]),
    ],
)
def test_by_hand(scores, top_k, expected):
    scores, expected = torch.tensor(scores, dtype=torch.float64), torch.tensor(expected, dtype=torch.float64)
    assert_close(top_k_sparsemax(scores, top_k=top_k), expected, rtol=0, atol=1e-15)
    assert_close(top_k_sparsemax(2 * scores - 7, gamma=2.0, top_k=top_k), expected, rtol=0, atol=1e-14)


@property_test
@given(masked_row=masked_rows(), gamma=gammas, top_k=top_ks)
def test_no_other_support_of_that_size_is_better(masked_row, gamma, top_k):
    row, mask = masked_row
    operator = TopKSparsemax(gamma, top_k)
    weights, value = operator(row, mask), operator.value(row, mask)
    assert support_size(weights) <= top_k and (weights >= 0).all() and (weights[~mask] == 0).all()
    assert_close(weights.sum().item(), 1.0, rtol=0, atol=1e-14)
    included = mask.nonzero().flatten().tolist()
    best = -math.inf
    for support in itertools.islice(itertools.combinations(included, min(top_k, len(included))), 300):
        best = max(best, RegularizedMax.by_name("sparsemax")(gamma).value(row[list(support)]).item())
    assert value >= best - 1e-10
    assert_close(value, row[mask] @ weights[mask] - gamma * weights.square().sum() / 2, rtol=0, atol=1e-10)


@property_test
@given(masked_row=masked_rows(), gamma=gammas)
def test_rows_that_have_no_more_scores_are_those_of_sparsemax(masked_row, gamma):
    row, mask = masked_row
    for top_k in (int(mask.sum()), 100):
        assert torch.equal(top_k_sparsemax(row, mask, gamma=gamma, top_k=top_k), sparsemax(row, mask, gamma=gamma))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_of_many_ties_the_first_are_taken(dtype):
    scores = torch.full((3, 1000), 0.25, dtype=dtype)
    scores[1, 7], scores[2, :5] = 0.5, -math.inf
    weights = top_k_sparsemax(scores, gamma=10.0, top_k=4)
    assert [row.nonzero().flatten().tolist() for row in weights] == [[0, 1, 2, 3], [0, 1, 2, 7], [5, 6, 7, 8]]
    along_columns = top_k_sparsemax(scores.t(), dim=0, gamma=10.0, top_k=4)
    assert torch.equal(along_columns, weights.t())


@pytest.mark.parametrize("of_value", [False, True])
def test_derivatives_by_scores_and_gamma_are_those_of_finite_differences(of_value):
    scores, mask = random_scores(3, 6).requires_grad_(), random_mask(3, 6)
    gamma = torch.tensor([[1.7], [1.0], [4.0]], dtype=torch.float64, requires_grad=True)

    def run(scores, gamma):
        operator = TopKSparsemax(gamma, top_k=3)
        return operator.value(scores, mask) if of_value else operator(scores, mask)

    assert gradcheck(run, (scores, gamma), check_forward_ad=True)
    assert gradgradcheck(run, (scores, gamma), check_fwd_over_rev=True)


def test_the_gradient_is_0_where_a_score_is_not_taken():
    scores = torch.tensor([1.0, 0.9, 0.8, 0.95], requires_grad=True)
    weights = top_k_sparsemax(scores, top_k=3)
    (gradient,) = torch.autograd.grad(weights, scores, torch.tensor([1.0, 2.0, 9.0, 6.0]))
    assert_close(gradient, torch.tensor([-2.0, -1.0, 0.0, 3.0]))


def test_rows_without_a_solution_are_nan_wherever_they_are_not_masked():
    scores, mask = random_scores(5, 6).requires_grad_(), torch.ones(5, 6, dtype=torch.bool)
    mask[:, 4], mask[3] = False, False
    spoiled = scores.detach().clone()
    spoiled[0, 2], spoiled[1, 0], spoiled[2, 4], spoiled[4, 1] = math.nan, math.inf, math.nan, -math.inf
    weights = top_k_sparsemax(spoiled, mask, gamma=9.0, top_k=2)
    assert weights.isnan().equal(mask & torch.tensor([[True], [True], [False], [False], [False]]))
    assert (weights[3] == 0).all() and support_size(weights)[[2, 4]].tolist() == [2, 2]
    gamma = torch.tensor([[1.0], [0.0], [-1.0], [1.0], [1.0]])
    weights = top_k_sparsemax(scores, mask, gamma=gamma, top_k=2)
    assert weights.isnan().equal(mask & torch.tensor([[False], [True], [True], [False], [False]]))


def test_the_loss():
    scores, operator = random_scores(4, 5).requires_grad_(), TopKSparsemax(gamma=2.0, top_k=2)
    losses = fenchel_young_loss(scores, torch.tensor([0, 1, 2, 4]), operator, reduction="none")
    (gradient,) = torch.autograd.grad(losses.sum(), scores)
    target = torch.nn.functional.one_hot(torch.tensor([0, 1, 2, 4]), 5)
    assert_close(gradient, operator(scores) - target)
    assert (losses >= 0).all()
    assert fenchel_young_loss(scores, operator(scores), operator).item() == pytest.approx(0, abs=1e-12)
    # More weights than can be had.
    three = torch.tensor([0.4, 0.3, 0.3, 0.0, 0.0]).double().expand(4, 5)
    losses = fenchel_young_loss(scores, three, operator, reduction="none")
    assert (losses == math.inf).all()
    assert torch.autograd.grad(losses.sum(), scores)[0].isfinite().all()


def test_function_transforms():
    check_function_transforms(lambda scores: top_k_sparsemax(scores, gamma=2.0, top_k=3).square())


def test_torch_compile():
    check_compiled(lambda scores: top_k_sparsemax(scores, gamma=0.7, top_k=3))


def test_autocast():
    check_autocast(TopKSparsemax(top_k=3))


@pytest.mark.parametrize("top_k", [0, -1, np.int64(0)])
def test_top_k_must_be_1_or_above(top_k):
    for build in (lambda: top_k_sparsemax(random_scores(3), top_k=top_k), lambda: TopKSparsemax(top_k=top_k)):
        with pytest.raises(ValueError, match=f"top_k must be a whole number, 1 or above, but is {top_k}"):
            build()


@pytest.mark.parametrize("top_k", ["2", 2.0, None, True, torch.tensor(2.5)], ids=repr)
def test_top_k_must_be_a_whole_number(top_k):
    with pytest.raises(TypeError, match="top_k must be a whole number"):
        TopKSparsemax(top_k=top_k)


def test_it_is_registered_and_shows_its_arguments():
    operator = RegularizedMax.from_params({"type": "top_k_sparsemax", "top_k": np.int64(3)})
    assert repr(operator) == "TopKSparsemax(top_k=3, gamma=1.0, dim=-1)"
