"""The solvers that are exported to ONNX, against those for the CPU. `onnx_test.py` exports them."""

import math

import pytest
import torch
from hypothesis import given
from torch.testing import assert_close

from regattn_allennlp.operators.kernels import cpu, plain
from tests.operators.common import gammas, lams, masked_rows, property_test, random_mask, random_scores

TOLERANCE = {torch.float64: 1e-13, torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}

every_solver = pytest.mark.parametrize("name", ["sparsemax", "fusedmax", "oscarmax"])


def solve(kernels, name, scores, mask, gamma, lam, lams=None):
    """Weights and blocks."""
    if name == "sparsemax":
        return kernels.sparsemax_rows(scores, mask, gamma), None
    return getattr(kernels, f"{name}_rows")(scores, mask, gamma, lam, lams)


def check(*problem):
    weights, blocks = solve(plain, *problem)
    expected, expected_blocks = solve(cpu, *problem)
    assert_close(weights, expected, rtol=0, atol=TOLERANCE[weights.dtype], equal_nan=True)
    if blocks is not None:
        assert blocks.dtype == torch.int32
        assert ((blocks != 0) == (weights != 0)).all()
    return blocks, expected_blocks


def count_rounds(monkeypatch):
    """A list that gets an entry for every round of the loop over cuts."""
    rounds = []
    loop = plain.while_loop

    def counted(condition, body, carried, others):
        def count(*arguments):
            if len(carried) == 3:
                rounds.append(1)
            return body(*arguments)

        return loop(condition, count, carried, others)

    monkeypatch.setattr(plain, "while_loop", counted)
    return rounds


@every_solver
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", ["noise", "ties", "walk"])
@pytest.mark.parametrize("length", [1, 2, 3, 8, 40, 100])
def test_random_rows(name, dtype, kind, length):
    for seed, (gamma, lam) in enumerate([(1.0, 0.1), (0.3, 0.5), (3.0, 1e-9), (2.0, 3.0), (1.0, 1e9), (0.5, 0.0)]):
        scores = 2 * random_scores(50, length, seed=seed)
        scores = {"noise": scores, "ties": scores.round(), "walk": scores.cumsum(-1)}[kind].to(dtype)
        mask = random_mask(50, length, seed=seed) if seed % 2 else None
        check(name, scores, mask, gamma, lam)


@every_solver
def test_a_lam_for_each_row(name):
    scores, mask = random_scores(300, 9), random_mask(300, 9)
    lams = random_scores(300, seed=1).abs()
    lams[:4] = torch.tensor([0.0, math.nan, math.inf, -1.0])
    check(name, scores, mask, 0.7, 0.0, lams)


@pytest.mark.parametrize("name", ["fusedmax", "oscarmax"])
def test_blocks(name):
    scores, mask, vector = random_scores(300, 20), random_mask(300, 20), random_scores(300, 20, seed=1)
    for lam in (0.0, 0.05, 0.2, 1.0):
        products = [cpu.block_jacobian_rows(vector, blocks, 0.7) for blocks in check(name, scores, mask, 0.7, lam)]
        assert_close(*products, rtol=0, atol=1e-12)


@every_solver
@given(masked_rows(), gammas, lams)
@property_test
def test_any_row(name, row_and_mask, gamma, lam):
    row, mask = row_and_mask
    check(name, row.unsqueeze(0), mask.unsqueeze(0), gamma, lam)


@every_solver
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_rows_with_nothing_in_them_and_without_a_solution(name, dtype):
    scores = random_scores(6, 5, dtype=dtype)
    mask = torch.ones(6, 5, dtype=torch.bool)
    scores[0] = -math.inf
    mask[1] = False
    scores[2, 3] = math.nan
    scores[3, 0] = math.inf
    scores[4, 1] = math.nan
    mask[4, 1] = False
    scores[2:4, 2] = -math.inf
    check(name, scores, mask, 1.0, 0.2)
    weights, blocks = solve(plain, name, scores, mask, 1.0, 0.2)
    assert (weights[:2] == 0).all()
    assert weights[2:4].isnan().all(0).tolist() == [True, True, False, True, True]
    assert weights[4:].isfinite().all()
    assert blocks is None or (blocks[2:4] == torch.tensor([-1, -1, 0, -1, -1])).all()


@pytest.mark.parametrize("name", ["fusedmax", "oscarmax"])
@pytest.mark.parametrize("kind", ["noise", "stairs", "equal", "slope", "halves"])
def test_the_rounds_are_few(monkeypatch, name, kind):
    length = 300
    positions = torch.arange(length, dtype=torch.float32)
    rows = {
        "noise": random_scores(1, length, dtype=torch.float32),
        "stairs": (positions / 100).floor(),  # the middle one is drawn up and down alike
        "equal": torch.full((length,), 0.1),
        "slope": positions / length,
        "halves": 0.5**positions,
    }
    for lam in (1e-9, 0.1, 1.0):
        rounds = count_rounds(monkeypatch)
        check(name, rows[kind].reshape(1, length), None, 1.0, lam)
        assert 1 <= len(rounds) <= 30
        monkeypatch.undo()
