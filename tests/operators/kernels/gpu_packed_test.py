"""Packed rows, and rows that are too long for one tile; see `gpu_test.py`."""

import itertools
import sys

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

from regattn_allennlp.operators.kernels import cpu
from tests.operators.kernels.gpu_simplex_test import alpha_gradient
from tests.operators.kernels.gpu_test import TOLERANCE, random_rows, same_blocks
from tests.operators.kernels.interpreter import DEVICE, ON_GPU

# The interpreter computes what `where` then does not choose.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow|divide by zero) encountered:RuntimeWarning")

NUM_COPIES = 2
NAMES = ["sparsemax", "fusedmax", "oscarmax", "entmax", "entmax above 2", "squared_p_norm_max", "normmax"]
every_operator = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def longest(gpu, monkeypatch):
    """The length of the longest rows that fit a tile. The interpreter, which is slow, takes less for long."""
    if ON_GPU:
        return gpu.MAX_LENGTH
    tiles = sys.modules[gpu.Problems.__module__]
    monkeypatch.setattr(tiles, "SHORTEST_BUCKET", tiles.tl.constexpr(2))
    monkeypatch.setattr(tiles, "BUCKET_RATIO", tiles.tl.constexpr(4))
    for module in (tiles, gpu):
        monkeypatch.setattr(module, "MAX_LENGTH", 128)
    monkeypatch.setattr(tiles, "PIECE", 64)
    return 128


@pytest.fixture
def lengths(longest):
    """Both sides of every bucket's bounds, none and one of several, and more short rows than a tile has."""
    bounds = [longest // (8 if ON_GPU else 4) ** power for power in range(4)]
    rows = [3, 0, 0, 1, *(bound + more for bound in bounds for more in (0, 1)), *[2, 5, 1] * 15, 0, longest + 70, 0]
    return np.random.default_rng(0).permutation(rows)


def offsets_of(lengths):
    return torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]))


def on_device(tensor):
    return None if tensor is None else tensor.to(DEVICE)


def solve(gpu, name, scores, mask, gamma, numbers, offsets):
    """Weights, and what the Jacobian wants to know; `numbers` are the rows' lams, or become their alphas."""
    scores, mask, numbers, offsets = map(on_device, (scores, mask, numbers, offsets))
    if name in ("fusedmax", "oscarmax"):
        weights, blocks = getattr(gpu, f"{name}_rows")(scores, mask, gamma, 0.0, numbers.flatten(), offsets)
        return weights.cpu(), blocks.cpu()
    if name.startswith("entmax"):
        may_exceed_2 = name == "entmax above 2"
        weights = gpu.entmax_rows(scores, mask, gamma, 0.0, alphas(name, numbers).flatten(), may_exceed_2, offsets)
    elif name == "sparsemax":
        weights = gpu.sparsemax_rows(scores, mask, gamma, offsets)
    else:
        weights = getattr(gpu, f"{name}_rows")(scores, mask, gamma, 1.4, offsets)
    assert weights.shape == scores.shape and weights.dtype == scores.dtype
    return weights.cpu(), weights.cpu()


def alphas(name, numbers):
    return 1 + numbers * (3 if name == "entmax above 2" else 1)


def multiply(gpu, name, vector, weights, gamma, numbers, offsets):
    vector, weights, numbers, offsets = map(on_device, (vector, weights, numbers, offsets))
    if name in ("fusedmax", "oscarmax"):
        return gpu.block_jacobian_rows(vector, weights, gamma, offsets).cpu()
    if name == "sparsemax":
        return gpu.support_jacobian_rows(vector, weights, gamma, offsets).cpu()
    if name.startswith("entmax"):
        return gpu.entmax_jacobian_rows(vector, weights, 0.0, alphas(name, numbers).flatten(), offsets).cpu()
    multiply = gpu.normmax_jacobian_rows if name == "normmax" else gpu.squared_p_norm_jacobian_rows
    return multiply(vector, weights, 1.4, offsets).cpu()


def check_optimality(name, values, weights, number):
    """By what tells the solution: on the support the slopes of Omega are those of v but for a constant, else more."""
    support = weights > 0
    assert abs(weights.sum() - 1) < 1e-10
    has_norm = name in ("squared_p_norm_max", "normmax")
    if has_norm:
        norm = (weights**1.4).sum() ** (1 / 1.4)
        slopes = (norm**0.6 if name == "squared_p_norm_max" else norm**-0.4) * weights[support] ** 0.4
    else:
        order = float(alphas(name, number)) - 1
        slopes = (weights[support] ** order - 1) / order
    threshold = values[support] - slopes
    np.testing.assert_allclose(threshold, threshold[0], rtol=0, atol=1e-7)
    if not support.all():
        at_0 = 0 if has_norm else -1 / order
        assert values[~support].max() <= threshold[0] + at_0 + 1e-7


def check_row(gpu, name, scores, mask, gamma, number, vector, weights, blocks, product):
    """One row against the CPU's kernels, or the conditions of optimality and the Jacobian's definition."""
    scores = scores.masked_fill(~mask, -torch.inf)
    if name in ("sparsemax", "fusedmax", "oscarmax"):
        by_lam = () if name == "sparsemax" else (0.0, number.reshape(1))
        solution = getattr(cpu, f"{name}_rows")(scores.unsqueeze(0), None, gamma, *by_lam)
        solution = solution if name == "sparsemax" else solution[0]
        torch.testing.assert_close(weights, solution[0], rtol=0, atol=1e-12)
        jacobian = cpu.support_jacobian_rows if name == "sparsemax" else cpu.block_jacobian_rows
        expected = jacobian(vector.unsqueeze(0), blocks.unsqueeze(0), gamma)[0]
    else:
        assert (weights[~mask] == 0).all()
        expected = torch.zeros_like(vector)
        if mask.any():
            values = (scores[mask] - scores[mask].max()) / gamma
            check_optimality(name, values.numpy(), weights[mask].numpy(), number)
            exponent = 2 - alphas(name, number) if name.startswith("entmax") else 0.6
            matrix = torch.diag(torch.where(weights > 0, weights**exponent, 0))
            norm = (weights**1.4).sum() ** (1 / 1.4)
            if name == "normmax":
                changes = norm**0.4 / 0.4 * (matrix @ (vector - weights @ vector))
                expected = changes - weights * changes.sum()
            else:
                if name == "squared_p_norm_max":
                    matrix = (norm**-0.6 * matrix - 0.6 * norm**-2 * torch.outer(weights, weights)) / 0.4
                by_ones = matrix.sum(1)
                expected = matrix @ vector - by_ones * (by_ones @ vector) / by_ones.sum()
    torch.testing.assert_close(product, expected, rtol=1e-9, atol=1e-9)


@every_operator
def test_packed_rows(gpu, name, lengths):
    offsets = offsets_of(lengths)
    shape = NUM_COPIES, int(offsets[-1])
    scores, vector = random_rows(*shape, seed=0), random_rows(*shape, seed=1)
    mask = torch.from_numpy(np.random.default_rng(0).random(shape) < 0.8)
    numbers = torch.from_numpy(np.random.default_rng(1).uniform(0.05, 1, (NUM_COPIES, len(lengths))))
    weights, blocks = solve(gpu, name, scores, mask, 0.7, numbers, offsets)
    product = multiply(gpu, name, vector, blocks, 0.7, numbers, offsets)
    for copy in range(NUM_COPIES):
        for row, (start, end) in enumerate(itertools.pairwise(offsets)):
            if start < end:
                piece = copy, slice(start, end)
                row_arguments = scores[piece], mask[piece], 0.7, numbers[copy, row], vector[piece]
                check_row(gpu, name, *row_arguments, weights[piece], blocks[piece], product[piece])


@every_operator
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_rows_of_other_dtypes(gpu, name, dtype):
    offsets = offsets_of([4, 20, 0, 1, 130])
    scores, vector = random_rows(2, 155, seed=0, dtype=dtype), random_rows(2, 155, seed=1, dtype=dtype)
    numbers = torch.full((2, 5), 0.3)
    weights, blocks = solve(gpu, name, scores, None, 1.0, numbers, offsets)
    expected, _ = solve(gpu, name, scores.double(), None, 1.0, numbers.double(), offsets)
    torch.testing.assert_close(weights.double(), expected, rtol=0, atol=TOLERANCE[dtype])
    if name != "entmax above 2":
        product = multiply(gpu, name, vector, blocks, 1.0, numbers, offsets).double()
        blocks = blocks.double() if blocks.is_floating_point() else blocks
        expected = multiply(gpu, name, vector.double(), blocks, 1.0, numbers.double(), offsets)
        torch.testing.assert_close(product, expected, rtol=TOLERANCE[dtype], atol=3 * TOLERANCE[dtype])


def test_the_gradient_by_alpha_of_packed_rows(gpu, lengths):
    offsets = offsets_of(lengths)
    shape = NUM_COPIES, int(offsets[-1])
    gradient, scores = random_rows(*shape, seed=0), random_rows(*shape, seed=1)
    numbers = torch.from_numpy(np.random.default_rng(1).uniform(1, 2, (NUM_COPIES, len(lengths))))
    weights, _ = solve(gpu, "entmax", scores, None, 1.0, numbers - 1, offsets)
    result = gpu.entmax_alpha_gradient_rows(*map(on_device, (gradient, weights, numbers, offsets))).cpu()
    expected = [
        [
            alpha_gradient(gradient[copy, start:end], weights[copy, start:end], numbers[copy, row].item())
            for row, (start, end) in enumerate(itertools.pairwise(offsets))
        ]
        for copy in range(NUM_COPIES)
    ]
    torch.testing.assert_close(result, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def test_the_gradient_by_alpha_of_matrices_of_long_rows(gpu, longest):
    gradient, scores = random_rows(2, longest + 200, seed=0), random_rows(2, longest + 200, seed=1)
    numbers = torch.tensor([[1.1], [1.7]], dtype=torch.float64)
    weights, _ = solve(gpu, "entmax", scores, None, 1.0, numbers - 1, None)
    result = gpu.entmax_alpha_gradient_rows(*map(on_device, (gradient, weights, numbers))).cpu()
    expected = [[alpha_gradient(gradient[row], weights[row], numbers[row].item())] for row in range(2)]
    torch.testing.assert_close(result, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


@every_operator
def test_matrices_of_long_rows(gpu, name, longest):
    length = longest + 200
    scores, vector = random_rows(3, length, seed=0), random_rows(3, length, seed=1)
    scores[1, 7], scores[2] = torch.nan, -torch.inf
    mask = torch.from_numpy(np.random.default_rng(0).random(scores.shape) < 0.8)
    mask[:, 7] = True
    numbers = torch.full((3, 1), 0.3, dtype=torch.float64)
    weights, blocks = solve(gpu, name, scores, mask, 0.7, numbers, None)
    product = multiply(gpu, name, vector, blocks, 0.7, numbers, None)
    assert (weights[1].isnan() == mask[1]).all() and (product[1].isnan() == mask[1]).all()
    assert (weights[2] == 0).all() and (product[2] == 0).all()
    check_row(gpu, name, scores[0], mask[0], 0.7, numbers[0, 0], vector[0], weights[0], blocks[0], product[0])


@every_operator
def test_packed_rows_without_a_solution_spoil_no_other(gpu, name, longest):
    offsets = offsets_of([3, 4, 20, 4, longest + 9])
    scores = random_rows(1, int(offsets[-1]), seed=0)
    numbers = torch.full((1, 5), 0.3, dtype=torch.float64)
    clean, clean_blocks = solve(gpu, name, scores, None, 1.0, numbers, offsets)
    scores[0, 4], scores[0, -5] = torch.inf, torch.nan
    scores[0, 27:31] = -torch.inf
    weights, blocks = solve(gpu, name, scores, None, 1.0, numbers, offsets)
    spoilt = torch.zeros(scores.shape, dtype=torch.bool)
    spoilt[0, 3:7] = spoilt[0, 31:] = True
    assert weights[spoilt].isnan().all()
    assert (weights[0, 27:31] == 0).all() and (blocks[0, 27:31] == 0).all()
    spoilt[0, 27:31] = True
    torch.testing.assert_close(weights[~spoilt], clean[~spoilt], rtol=0, atol=0)
    torch.testing.assert_close(blocks[~spoilt], clean_blocks[~spoilt], rtol=0, atol=0)
    if name in ("fusedmax", "oscarmax"):
        assert same_blocks(blocks[0, :3].numpy()).tolist() == same_blocks(clean_blocks[0, :3].numpy()).tolist()


@every_operator
@pytest.mark.parametrize("lengths", [[], [0, 0, 0]])
def test_nothing_packed(gpu, name, lengths):
    numbers = torch.full((2, len(lengths)), 0.3)
    for num_copies in (0, 2):
        scores = torch.empty(num_copies, 0)
        weights, blocks = solve(gpu, name, scores, None, 1.0, numbers[:num_copies], offsets_of(lengths).long())
        assert weights.shape == scores.shape
        product = multiply(gpu, name, scores, blocks, 1.0, numbers[:num_copies], offsets_of(lengths).long())
        assert product.shape == scores.shape


def test_every_row_is_in_one_bucket_and_programs_are_in_step_with_entries(gpu, lengths):
    for row_lengths in (lengths, [1] * 300, [0] * 50 + [3], [20] * 30, [0, 0]):
        offsets = offsets_of(row_lengths).to(DEVICE)
        num_entries = int(offsets[-1])
        problems = gpu.Problems(torch.empty(3, num_entries, device=DEVICE), offsets)
        found, num_programs = [], 0
        for bucket, longest, most in problems.sizes():
            if problems.buckets is not None:
                size, *rows = problems.buckets[bucket].tolist()
                found += rows[:size]
                assert 3 * size <= most
                assert all(row_lengths[row] <= longest for row in rows[:size])
                num_programs += most
        assert sorted(found) == [row for row, length in enumerate(row_lengths) if length]
        assert num_programs <= 3 * 2 * num_entries


def test_the_host_is_told_once_which_rows_are_long(gpu, longest):
    offsets = offsets_of([2, longest + 1, 5]).to(DEVICE)
    rows = gpu._long_rows(offsets, int(offsets[-1]))
    assert rows == [[1, 2, longest + 3]]
    assert gpu._long_rows(offsets, int(offsets[-1])) is rows
    offsets[1] += 1
    assert gpu._long_rows(offsets, int(offsets[-1])) == []
    with torch.inference_mode():
        offsets = offsets_of([2, longest + 1, 5]).to(DEVICE)
        assert gpu._long_rows(offsets, int(offsets[-1])) == rows
    assert len(gpu._long_rows_by_offsets) <= 1
