"""What numbers and machines do to the row solvers: extremes, rounding, threads."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.testing import assert_close

import regattn_allennlp
from regattn_allennlp import fusedmax, sparsemax
from regattn_allennlp.operators.kernels import cpu
from tests.conftest import PROJECT_ROOT
from tests.operators.common import build, every_operator, random_mask, random_scores


def check_simplex_and_gradients(operator, scores):
    scores = scores.requires_grad_()
    weights = operator(scores)
    assert weights.isfinite().all()
    assert (weights >= 0).all()
    assert_close(weights.double().sum(-1), torch.ones(scores.shape[:-1], dtype=torch.float64), rtol=0, atol=1e-5)
    (gradient,) = torch.autograd.grad(weights, scores, random_scores(*scores.shape, seed=1, dtype=scores.dtype))
    assert gradient.isfinite().all()
    return weights.detach()


@every_operator
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_extreme_magnitudes(name, dtype, scale):
    for gamma in (1e-30, 1e-3, 1.0, 1e3, 1e30):
        for lam in (1e-30, 0.1, 1e6, 1e30):
            check_simplex_and_gradients(build(name, gamma, lam), scale * random_scores(2, 9, dtype=dtype))


@every_operator
def test_extreme_magnitudes_in_one_row(name):
    largest = torch.finfo(torch.float32).max
    scores = torch.tensor([[1e30, -1e30, 0.0, 1.0, -1.0], [largest, -largest, 0.0, largest, 1e-45]])
    weights = check_simplex_and_gradients(build(name), scores)
    assert weights[0].tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert (weights[1, [1, 2, 4]] == 0).all()
    scores = torch.tensor([1e300, -1e308, 1e300, 0.0], dtype=torch.float64)
    weights = check_simplex_and_gradients(build(name, gamma=1e-30, lam=1e-3), scores)
    assert (weights[[1, 3]] == 0).all()


@every_operator
def test_the_largest_numbers_of_float16(name):
    largest = torch.finfo(torch.float16).max
    scores = torch.tensor([largest, -largest, largest, 0.0], dtype=torch.float16)
    assert build(name)(scores).tolist() == [0.5, 0.0, 0.5, 0.0] if name != "fusedmax" else [0.525, 0.0, 0.475, 0.0]


@every_operator
@pytest.mark.parametrize("lam", [1e-3, 0.1, 1e6])
def test_long_rows(name, lam):
    for scores in (random_scores(2, 2000), 30 * random_scores(2, 2000), random_scores(2, 2000).round()):
        check_simplex_and_gradients(build(name, 1.0, lam), scores)
        check_simplex_and_gradients(build(name, 50.0, lam), scores.float())


@pytest.mark.parametrize("name", ["fusedmax", "oscarmax"])
@pytest.mark.parametrize("lam", [1e6, 1e30])
def test_long_rows_with_a_large_lam_are_uniform(name, lam):
    weights = build(name, 1.0, lam)(random_scores(2, 2000))
    assert_close(weights, torch.full_like(weights, 1 / 2000), rtol=0, atol=1e-12)


def test_scores_that_rounding_puts_on_either_side_of_the_threshold():
    # The threshold is 1 below the largest score, and all others are a few rounding errors from there: the search for
    # it must end. It runs in a thread of its own, since compiled code cannot be interrupted.
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(-4, 5, (20_000, 30), generator=generator, dtype=torch.float64) * 2.0**-53 - 1.0
    scores[:, 7] = 0.0
    results = []
    worker = threading.Thread(target=lambda: results.append(sparsemax(scores)), daemon=True)
    worker.start()
    worker.join(timeout=30)
    assert not worker.is_alive()
    assert_close(results[0], torch.nn.functional.one_hot(torch.tensor(7), 30).to(scores).expand(20_000, 30))


@every_operator
def test_the_same_scores_give_the_same_bits(name):
    scores, mask = random_scores(4, 100, dtype=torch.float32), random_mask(4, 100)
    first = build(name)(scores, mask)
    for _ in range(5):
        assert torch.equal(build(name)(scores, mask), first)


@every_operator
def test_threads_do_not_disturb_each_other(name):
    def forward_and_backward(seed):
        scores = random_scores(50, 200, seed=seed).requires_grad_()
        weights = build(name, gamma=2.0, lam=0.05)(scores, random_mask(50, 200, seed=seed))
        weights.backward(random_scores(50, 200, seed=seed + 1))
        return weights.detach(), scores.grad

    serially = [forward_and_backward(seed) for seed in range(12)]
    with ThreadPoolExecutor(max_workers=6) as executor:
        at_once = list(executor.map(forward_and_backward, range(12)))
    assert_close(at_once, serially, rtol=0.0, atol=0.0)


def test_several_backward_passes_through_one_graph():
    scores = random_scores(3, 8).requires_grad_()
    weights = fusedmax(scores)
    upstream = random_scores(3, 8, seed=1)
    (first,) = torch.autograd.grad(weights, scores, upstream, retain_graph=True)
    (second,) = torch.autograd.grad(weights, scores, upstream)
    assert torch.equal(first, second)


USE_ONCE = """
import torch
from regattn_allennlp import sparsemax
from regattn_allennlp.operators.kernels import cpu
sparsemax(torch.randn(3, 4))
stats = cpu.sparsemax_numpy.stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


def test_kernels_are_compiled_once_for_all_processes(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(PROJECT_ROOT)}
    hits_and_misses = [
        subprocess.run([sys.executable, "-c", USE_ONCE], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert [process.stdout.split() for process in hits_and_misses] == [["0", "1"], ["1", "0"]]


@pytest.mark.parametrize("name", ["sparsemax", "fusedmax", "oscarmax", "entmax"])
def test_threads_share_the_rows_and_change_nothing(name, monkeypatch):
    scores, mask = random_scores(101, 7), random_mask(101, 7)
    parameters = {"entmax": {"alpha": torch.linspace(1, 3, 101).view(101, 1)}, "sparsemax": {}}
    by_row = parameters.get(name, {"lam": torch.linspace(0, 0.5, 101).view(101, 1)})

    def weights_and_gradient() -> list[torch.Tensor]:
        rows = scores.clone().requires_grad_()
        weights = getattr(regattn_allennlp, name)(rows, mask, **by_row)
        return [weights, torch.autograd.grad(weights[:, 1].sum(), rows)[0]]

    alone = weights_and_gradient()
    num_started = 0

    class CountedThread(threading.Thread):
        def start(self):
            nonlocal num_started
            num_started += 1
            super().start()

    monkeypatch.setattr(cpu.threading, "Thread", CountedThread)
    monkeypatch.setattr(cpu, "SCORES_PER_THREAD", 100)
    monkeypatch.setattr(cpu, "SCORES_PER_THREAD_BY_STEPS", 100)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert_close(weights_and_gradient(), alone, rtol=0, atol=0)
    assert num_started == 2 * 2  # two threads beside this one, forward and backward
