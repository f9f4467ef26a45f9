"""
The kernels for the GPU. Without one, Triton's interpreter runs them on the CPU; `gpu_compilation_test.py` compiles
them, which needs no GPU either.
"""

import functools
import itertools
import math

import numpy as np
import pytest
import torch

pytest.importorskip("triton")

from tests.operators.kernels.interpreter import DEVICE, ON_GPU

# The interpreter computes what `where` then does not choose.
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


# --- oracles: one row, no mask, float64, as slow as it takes ---


def simplex_projection(row):
    """Of all thresholds that fit the k largest, the one that leaves exactly those is the largest."""
    row = row - row.max()
    thresholds = (np.sort(row)[::-1].cumsum() - 1) / np.arange(1, len(row) + 1)
    return np.maximum(row - thresholds.max(), 0)


def sparsemax_oracle(row, lam):
    return simplex_projection(row), np.arange(len(row))


def means_of(groups, values):
    solution = np.empty(len(values))
    for group in groups:
        solution[group] = values[group].mean()
    return solution


def fusedmax_oracle(row, lam):
    """Of all divisions into segments, and all signs of the steps between, the solution of least cost."""
    length = len(row)
    best_cost, best = math.inf, None
    for inner in itertools.product([False, True], repeat=length - 1):
        ends = [k + 1 for k in range(length - 1) if inner[k]] + [length]
        starts = [0, *ends[:-1]]
        for signs in itertools.product([-1, 1], repeat=len(starts) - 1):
            pull = [0, *signs, 0]
            solution = np.empty(length)
            for number, (start, end) in enumerate(zip(starts, ends, strict=True)):
                change = lam * (pull[number + 1] - pull[number])
                solution[start:end] = row[start:end].mean() + change / (end - start)
            cost = ((solution - row) ** 2).sum() / 2 + lam * np.abs(np.diff(solution)).sum()
            if cost < best_cost - 1e-12:
                blocks = np.repeat(np.arange(len(starts)), np.subtract(ends, starts))
                best_cost, best = cost, (solution, blocks)
    solution, blocks = best
    return simplex_projection(solution), (blocks if lam > 0 else np.arange(length))


def oscarmax_oracle(row, lam):
    """Of all divisions of the sorted row into groups: the one of least cost with decreasing levels."""
    length = len(row)
    order = np.argsort(-row, kind="stable")
    target = row[order] - lam * np.arange(length - 1, -1, -1)
    best_cost, best = math.inf, None
    for inner in itertools.product([False, True], repeat=length - 1):
        blocks = np.cumsum([0, *inner])
        solution = means_of([blocks == block for block in range(blocks[-1] + 1)], target)
        cost = ((solution - target) ** 2).sum()
        if (np.diff(solution) <= 1e-12).all() and cost < best_cost - 1e-12:
            best_cost, best = cost, (solution, blocks)
    solution, blocks = best
    unsorted_solution, unsorted_blocks = np.empty(length), np.empty(length, dtype=int)
    unsorted_solution[order], unsorted_blocks[order] = solution, blocks
    return simplex_projection(unsorted_solution), (unsorted_blocks if lam > 0 else np.arange(length))


ORACLES = {"sparsemax": sparsemax_oracle, "fusedmax": fusedmax_oracle, "oscarmax": oscarmax_oracle}
every_operator = pytest.mark.parametrize("name", list(ORACLES))
with_blocks = pytest.mark.parametrize("name", ["fusedmax", "oscarmax"])


def jacobian_matrix(weights, blocks, gamma):
    """The dense Jacobian by its definition: averaging within each block of S, less averaging over all of S."""
    supported = weights != 0
    same_block = (blocks[:, None] == blocks[None, :]) & supported[:, None] & supported[None, :]
    averaging = same_block / np.maximum(same_block.sum(1, keepdims=True), 1)
    return (averaging - np.outer(supported, supported) / max(supported.sum(), 1)) / gamma


def solve(gpu, name, scores, mask=None, gamma=1.0, lam=0.0, lams=None):
    """Weights and blocks on the CPU; what sparsemax has instead of blocks: the support's positions."""
    arguments = [None if tensor is None else tensor.to(DEVICE) for tensor in (scores, mask, lams)]
    scores, mask, lams = arguments
    if name == "sparsemax":
        weights = gpu.sparsemax_rows(scores, mask, gamma)
        positions = torch.arange(1, scores.size(1) + 1, device=DEVICE, dtype=torch.int32)
        blocks = torch.where(weights != 0, positions, 0)
    else:
        weights, blocks = getattr(gpu, f"{name}_rows")(scores, mask, gamma, lam, lams)
        assert blocks.dtype == torch.int32 and blocks.shape == scores.shape
    assert weights.dtype == scores.dtype and weights.shape == scores.shape
    return weights.cpu(), blocks.cpu()


def jacobian_product(gpu, name, upstream, weights, blocks, gamma):
    if name == "sparsemax":
        return gpu.support_jacobian_rows(upstream.to(DEVICE), weights.to(DEVICE), gamma).cpu()
    return gpu.block_jacobian_rows(upstream.to(DEVICE), blocks.to(DEVICE), gamma).cpu()


def random_rows(num_rows, length, seed, dtype=torch.float64):
    random = np.random.default_rng(seed)
    rows = random.normal(size=(num_rows, length)) * random.choice([0.3, 1.0, 3.0], size=(num_rows, 1))
    rows += random.choice([-5.0, 0.0, 5.0], size=(num_rows, 1))
    return torch.from_numpy(rows).to(dtype)


def same_blocks(blocks):
    return blocks[:, None] == blocks[None, :]


def check_against_oracle(gpu, name, scores, mask, gamma, lams):
    """Weights, blocks and Jacobian of every row; `lams` has one for each."""
    length = scores.size(1)
    if name == "sparsemax":
        weights, blocks = solve(gpu, name, scores, mask, gamma)
    elif len(set(lams)) == 1:
        weights, blocks = solve(gpu, name, scores, mask, gamma, lam=float(lams[0]))
    else:
        weights, blocks = solve(gpu, name, scores, mask, gamma, lams=torch.tensor(lams, dtype=scores.dtype))
    upstream = random_rows(len(scores), length, seed=1, dtype=scores.dtype)
    products = jacobian_product(gpu, name, upstream, weights, blocks, gamma)
    tolerance = TOLERANCE[scores.dtype]
    included = scores.isfinite().numpy() if mask is None else (mask & scores.isfinite()).numpy()
    for row in range(len(scores)):
        expected, expected_blocks = np.zeros(length), np.full(length, -1)
        inside = included[row]
        if inside.any():
            values = scores[row].double().numpy()[inside]
            solution = ORACLES[name]((values - values.max()) / gamma, float(lams[row]))
            expected[inside], expected_blocks[inside] = solution
        np.testing.assert_allclose(weights[row].double(), expected, rtol=0, atol=tolerance)
        if scores.dtype == torch.float64:
            supported = expected > 1e-9
            number = blocks[row].numpy()
            np.testing.assert_array_equal(number != 0, supported)
            assert (number[supported] >= 1).all()
            np.testing.assert_array_equal(same_blocks(number[supported]), same_blocks(expected_blocks[supported]))
            product = jacobian_matrix(expected * supported, expected_blocks, gamma) @ upstream[row].numpy()
            np.testing.assert_allclose(products[row], product, rtol=0, atol=1e-10)


@every_operator
@pytest.mark.parametrize("length", [1, 2, 3, 6])
def test_weights_blocks_and_jacobian_by_enumeration(gpu, name, length):
    # More rows than a tile has, and as many lams as rows.
    scores = random_rows(35, length, seed=length)
    lams = np.random.default_rng(length).choice([0.0, 0.03, 0.1, 0.5, 1.0], size=len(scores))
    mask = torch.from_numpy(np.random.default_rng(0).random(scores.shape) < 0.7)
    check_against_oracle(gpu, name, scores, None, 0.7, lams)
    check_against_oracle(gpu, name, scores, mask, 1.3, lams)
    check_against_oracle(gpu, name, scores.masked_fill(~mask, -math.inf), None, 2.0, [0.2] * len(scores))
    check_against_oracle(gpu, name, scores.float(), mask, 0.5, lams)


@every_operator
def test_ties(gpu, name):
    # lam is none of the values at which whole numbers make the solution's blocks ambiguous.
    scores = torch.from_numpy(np.random.default_rng(0).integers(-2, 3, size=(40, 6)).astype(float))
    check_against_oracle(gpu, name, scores, None, 1.37, [0.217] * len(scores))
    check_against_oracle(gpu, name, scores, None, 1.37, [0.0] * len(scores))


@functools.cache
def convex_problem(name, length):
    cvxpy = pytest.importorskip("cvxpy")
    weights, scores, lam = cvxpy.Variable(length), cvxpy.Parameter(length), cvxpy.Parameter(nonneg=True)
    omega = cvxpy.sum_squares(weights) / 2
    if name == "fusedmax":
        omega += lam * cvxpy.sum(cvxpy.abs(weights[1:] - weights[:-1]))
    elif name == "oscarmax":
        first, second = map(list, zip(*itertools.combinations(range(length), 2), strict=True))
        omega += lam * cvxpy.sum(cvxpy.maximum(weights[first], weights[second]))
    problem = cvxpy.Problem(cvxpy.Maximize(scores @ weights - omega), [weights >= 0, cvxpy.sum(weights) == 1])
    return problem, weights, scores, lam


def solved_by_a_convex_solver(name, row, gamma, lam):
    problem, weights, scores, lam_parameter = convex_problem(name, len(row))
    scores.value, lam_parameter.value = (row - row.max()) / gamma, lam
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12)
    return weights.value


# The lengths on both sides of what fusedmax solves in different ways, with few and with many positions left.
@pytest.mark.parametrize(
    "name, length", [("sparsemax", 100), ("fusedmax", 17), ("fusedmax", 100), ("fusedmax", 600), ("oscarmax", 40)]
)
def test_longer_rows_agree_with_a_convex_solver(gpu, name, length):
    scores = random_rows(3, length, seed=length)
    for gamma, lam in [(1.0, 0.1), (60.0, 0.003), (1.0, 3.0)]:
        weights, _ = solve(gpu, name, scores, None, gamma, lam)
        narrow, _ = solve(gpu, name, scores.float(), None, gamma, lam)
        for row in range(len(scores)):
            expected = solved_by_a_convex_solver(name, scores[row].numpy(), gamma, lam)
            np.testing.assert_allclose(weights[row], expected, rtol=0, atol=1e-7)
            np.testing.assert_allclose(narrow[row], expected, rtol=0, atol=3e-6)


@every_operator
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_and_rounded_once(gpu, name, dtype):
    scores = random_rows(9, 37, seed=5, dtype=dtype)
    mask = torch.from_numpy(np.random.default_rng(0).random(scores.shape) < 0.8)
    weights, _ = solve(gpu, name, scores, mask, 0.9, 0.05)
    expected, _ = solve(gpu, name, scores.double(), mask, 0.9, 0.05)
    # The interpreter rounds bfloat16 towards zero.
    rounding = 0.55 if ON_GPU or dtype == torch.float16 else 1.05
    torch.testing.assert_close(weights.double(), expected, rtol=rounding * torch.finfo(dtype).eps, atol=1e-6)


@every_operator
@pytest.mark.parametrize("length", [5, 40])
def test_rows_without_a_solution_spoil_no_other_row(gpu, name, length):
    scores = random_rows(12, length, seed=2)
    mask = torch.ones(scores.shape, dtype=torch.bool)
    mask[:, 3] = False
    clean, clean_blocks = solve(gpu, name, scores, mask, 1.0, 0.1)
    scores[1, 0], scores[4, 2], scores[6, 1] = math.nan, math.inf, -math.nan
    scores[7, 3], scores[8, 3] = math.nan, math.inf  # masked: harmless
    scores[9] = -math.inf
    mask[10] = False
    scores[10, 0] = math.nan
    spoilt, empty, harmless = [1, 4, 6], [9, 10], [0, 2, 3, 5, 7, 8, 11]
    weights, blocks = solve(gpu, name, scores, mask, 1.0, 0.1)
    torch.testing.assert_close(weights[harmless], clean[harmless], rtol=0, atol=0)
    torch.testing.assert_close(blocks[harmless], clean_blocks[harmless], rtol=0, atol=0)
    assert (weights[empty] == 0).all() and (blocks[empty] == 0).all()
    assert weights[spoilt].isnan()[mask[spoilt]].all()
    assert (weights[spoilt][~mask[spoilt]] == 0).all()
    if name != "sparsemax":
        assert (blocks[spoilt] == torch.where(mask[spoilt], -1, 0)).all()
    product = jacobian_product(gpu, name, random_rows(12, length, seed=3), weights, blocks, 1.0)
    assert product[spoilt].isnan()[mask[spoilt]].all()
    assert product[harmless + empty].isfinite().all()
    assert (product[~mask] == 0).all()


@pytest.mark.parametrize("name", ["fusedmax", "oscarmax"])
@pytest.mark.parametrize("length", [5, 40])
@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf])
def test_a_row_whose_lam_is_no_number_above_zero_spoils_no_other(gpu, name, length, bad):
    scores = random_rows(3, length, seed=2)
    scores[:, 1] = -math.inf
    clean, clean_blocks = solve(gpu, name, scores, None, 1.0, 0.1)
    lams = torch.tensor([0.1, bad, 0.1], dtype=torch.float64, device=DEVICE)
    weights, blocks = solve(gpu, name, scores, None, 1.0, lams=lams)
    torch.testing.assert_close(weights[[0, 2]], clean[[0, 2]], rtol=0, atol=0)
    torch.testing.assert_close(blocks[[0, 2]], clean_blocks[[0, 2]], rtol=0, atol=0)
    assert (weights[1].isnan() == (scores[1] != -math.inf)).all()
    assert (blocks[1] == torch.where(scores[1] != -math.inf, -1, 0)).all()


@every_operator
def test_scores_far_apart(gpu, name):
    largest = torch.finfo(torch.float32).max
    scores = torch.tensor([[largest, -largest, 0.0], [1e30, 1e30, -1e30], [1e-30, 0.0, 0.0], [-1e38, -1e38, -3e38]])
    for gamma in (1e-30, 1.0, 1e30):
        weights, _ = solve(gpu, name, scores, None, gamma, 0.1)
        assert weights.isfinite().all()
        torch.testing.assert_close(weights.sum(1), torch.ones(4))
    weights, _ = solve(gpu, name, scores, None, 1.0, 0.1)
    torch.testing.assert_close(weights[0], torch.tensor([1.0, 0, 0]))
    torch.testing.assert_close(weights[1], torch.tensor([0.5, 0.5, 0]))


@with_blocks
def test_without_lam_the_weights_are_sparsemax_and_blocks_single_positions(gpu, name):
    scores = torch.from_numpy(np.random.default_rng(3).integers(0, 4, size=(6, 50)) / 8)
    expected, _ = solve(gpu, "sparsemax", scores)
    weights, blocks = solve(gpu, name, scores, lam=0.0)
    torch.testing.assert_close(weights, expected)
    for row_blocks in blocks:
        numbers = row_blocks[row_blocks != 0]
        assert len(numbers.unique()) == len(numbers) > 1


@with_blocks
def test_large_lam_makes_uniform_weights_of_one_block(gpu, name):
    for dtype in (torch.float32, torch.float64):
        scores = random_rows(5, 90, seed=0, dtype=dtype)
        mask = torch.from_numpy(np.random.default_rng(0).random(scores.shape) < 0.8)
        for lam in (100.0, 1e6, 1e30, 1e300):
            weights, blocks = solve(gpu, name, scores, mask, 1.0, lam)
            torch.testing.assert_close(weights, mask / mask.sum(1, keepdim=True).to(dtype), rtol=1e-4, atol=0)
            assert (blocks == mask).all()


def proximal_violation(values, weights, lam):
    """
    How far one row of fusedmax is from optimal, by the conditions of optimality alone: with the threshold t and v - z
    = the divergence of a flow u, |u| <= lam, u = lam * sign where the weight steps; z = weight + t on the support.
    There the flow can be followed from the left as long as weights are positive; at a run's ends it is at its bound.
    """
    violation, position = abs(weights.sum() - 1), 0
    runs = []
    while position < len(values):
        if weights[position] == 0:
            position += 1
            continue
        end = position
        while end < len(values) and weights[end] > 0:
            end += 1
        runs.append((position, end))
        position = end
    perimeter = sum((start > 0) + (end < len(values)) for start, end in runs)
    supported = weights > 0
    threshold = ((values[supported]).sum() - lam * perimeter - 1) / supported.sum()
    for start, end in runs:
        flow = lam if start > 0 else 0.0
        for k in range(start, end):
            flow = flow + weights[k] + threshold - values[k]
            bound = -lam if k + 1 == len(values) or k + 1 == end else None
            if k + 1 == len(values):
                violation = max(violation, abs(flow))
            elif k + 1 == end:
                violation = max(violation, abs(flow - bound))
            elif weights[k + 1] != weights[k]:
                violation = max(violation, abs(flow - lam * np.sign(weights[k + 1] - weights[k])))
            else:
                violation = max(violation, abs(flow) - lam)
    return violation


def adversarial_rows(length):
    ramp = np.arange(length) / length
    steps = 2.0 ** -np.arange(length)
    sawtooth = np.where(np.arange(length) % 2, 0.3, 0.0) + ramp
    random = np.random.default_rng(0).normal(size=length).cumsum() / 10
    constant = np.zeros(length)
    spike = np.where(np.arange(length) == length // 2, 50.0, 0.0)
    return np.stack([ramp, -ramp, steps, -steps, sawtooth, random, constant, spike, ramp**8, -(ramp**2)])


def test_fusedmax_of_adversarial_rows_is_optimal(gpu):
    rows = adversarial_rows(200)
    for gamma, lam in [(0.01, 0.3), (30.0, 0.001)]:
        weights, _ = solve(gpu, "fusedmax", torch.from_numpy(rows), None, gamma, lam)
        narrow, _ = solve(gpu, "fusedmax", torch.from_numpy(rows).float(), None, gamma, lam)
        for row, row_weights, row_narrow in zip(rows, weights.numpy(), narrow.numpy(), strict=True):
            assert proximal_violation((row - row.max()) / gamma, row_weights, lam) < 1e-10
            np.testing.assert_allclose(row_narrow, row_weights, rtol=0, atol=1e-5)


def test_oscarmax_of_adversarial_rows_is_the_isotonic_regression(gpu):
    length = 150
    rows = adversarial_rows(length)
    for gamma, lam in [(1.0, 0.001), (0.01, 0.3)]:
        weights, _ = solve(gpu, "oscarmax", torch.from_numpy(rows), None, gamma, lam)
        narrow, _ = solve(gpu, "oscarmax", torch.from_numpy(rows).float(), None, gamma, lam)
        for row, row_weights, row_narrow in zip(rows, weights.numpy(), narrow.numpy(), strict=True):
            order = np.argsort(-row, kind="stable")
            blocks: list[tuple[float, int]] = []  # sums and sizes, pooled from the left
            for value in (row[order] - row.max()) / gamma + lam * np.arange(length):
                total, size = value, 1
                while blocks and blocks[-1][0] * size <= total * blocks[-1][1]:
                    total, size = total + blocks[-1][0], size + blocks[-1][1]
                    blocks.pop()
                blocks.append((total, size))
            expected = np.empty(length)
            expected[order] = simplex_projection(np.repeat([t / s for t, s in blocks], [s for _, s in blocks]))
            np.testing.assert_allclose(row_weights, expected, rtol=0, atol=1e-9)
            np.testing.assert_allclose(row_narrow, expected, rtol=0, atol=1e-5)


@every_operator
def test_jacobian_in_every_dtype_of_upstream(gpu, name):
    weights, blocks = solve(gpu, name, random_rows(20, 30, seed=4), None, 2.0, 0.03)
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        upstream = random_rows(20, 30, seed=6, dtype=dtype)
        upstream[:, 3] = torch.where(weights[:, 3] == 0, math.nan, upstream[:, 3].double()).to(dtype)
        product = jacobian_product(gpu, name, upstream, weights, blocks, 2.0)
        assert product.dtype == dtype
        clean = upstream.double().masked_fill(weights == 0, 0).numpy()
        for row in range(20):
            expected = jacobian_matrix(weights[row].numpy(), blocks[row].numpy(), 2.0) @ clean[row]
            np.testing.assert_allclose(product[row].double(), expected, rtol=0, atol=3 * TOLERANCE[dtype])


def test_jacobian_does_not_ask_how_blocks_are_numbered(gpu):
    # Numbers above the length are those of blocks of one position; all others may come in any order, and have gaps.
    blocks = torch.tensor([[5, 2, 2, 0, 5, 11, 2, 0], [0, 0, 0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1]])
    upstream = random_rows(3, 8, seed=0)
    product = gpu.block_jacobian_rows(upstream.to(DEVICE), blocks.int().to(DEVICE), 0.5).cpu()
    for row in range(3):
        expected = jacobian_matrix(blocks[row].numpy() != 0, blocks[row].numpy(), 0.5) @ upstream[row].numpy()
        np.testing.assert_allclose(product[row], expected, rtol=0, atol=1e-12)


def test_no_rows_and_no_positions(gpu):
    for shape in [(0, 5), (3, 0), (0, 0)]:
        scores = torch.empty(shape, device=DEVICE)
        assert gpu.sparsemax_rows(scores, None, 1.0).shape == shape
        for solver in (gpu.fusedmax_rows, gpu.oscarmax_rows):
            weights, blocks = solver(scores, None, 1.0, 0.1, None)
            assert weights.shape == blocks.shape == shape
            assert gpu.block_jacobian_rows(scores, blocks, 1.0).shape == shape
        assert gpu.support_jacobian_rows(scores, scores, 1.0).shape == shape


@pytest.mark.parametrize("kind", ["noise", "stairs", "slope", "whole", "halves"])
def test_fusedmax_takes_few_rounds(gpu, kind, monkeypatch):
    if ON_GPU:
        pytest.skip("only Triton's interpreter lets them be counted")
    rounds = []
    means = gpu._segment_means
    monkeypatch.setattr(gpu, "_segment_means", lambda *arguments: rounds.append(1) or means(*arguments))
    length = 100
    positions = torch.arange(length, dtype=torch.float64)
    row = {
        "noise": random_rows(1, length, seed=0),
        "stairs": (positions / 50).floor(),
        "slope": positions / length,  # the levels of equal steps are told apart, but cuts between them are of no use
        "whole": positions,
        "halves": 0.5**positions,
    }[kind]
    for dtype in (torch.float32, torch.float64):
        for gamma, lam in [(1.0, 1.0), (1000.0, 0.001), (1e5, 5e-6)]:
            rounds.clear()
            solve(gpu, "fusedmax", row.reshape(1, length).to(dtype), None, gamma, lam)
            assert 1 <= len(rounds) <= 12


@pytest.mark.skipif(not ON_GPU, reason="needs a GPU: streams are captured there")
@every_operator
def test_cuda_graphs_capture_forward_and_backward(gpu, name):
    scores = random_rows(100, 48, seed=0, dtype=torch.float32)
    upstream = random_rows(100, 48, seed=1, dtype=torch.float32)
    static_scores, static_upstream = torch.zeros_like(scores, device=DEVICE), upstream.to(DEVICE)

    def step():
        if name == "sparsemax":
            weights = gpu.sparsemax_rows(static_scores, None, 1.0)
            return weights, gpu.support_jacobian_rows(static_upstream, weights, 1.0)
        weights, blocks = getattr(gpu, f"{name}_rows")(static_scores, None, 1.0, 0.1, None)
        return weights, gpu.block_jacobian_rows(static_upstream, blocks, 1.0)

    step()  # compiles
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    static_scores.copy_(scores)
    graph.replay()
    for got, expected in zip(captured, step(), strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=0)
