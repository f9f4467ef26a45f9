"""The losses of indices where numbers, sizes and machines are extreme: against closed forms, threads, memory."""

import math

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.testing import assert_close

from regattn_allennlp import Entmax, RegularizedMax, Softmax, Sparsemax, fenchel_young_loss
from regattn_allennlp.operators.kernels import cpu, losses
from tests.operators.common import random_mask, random_scores

WITH_KERNEL = [Softmax, Sparsemax, Entmax]
every_kernel = pytest.mark.parametrize("kind", WITH_KERNEL)


def upstream(number: int) -> torch.Tensor:
    return torch.linspace(1, 2, number, dtype=torch.float64)


def losses_and_gradients(scores: torch.Tensor, target: torch.Tensor, operator: RegularizedMax, *mask: torch.Tensor):
    scores = scores.detach().requires_grad_()
    of_rows = fenchel_young_loss(scores, target, operator, *mask, reduction="none")
    (gradient,) = torch.autograd.grad(of_rows, scores, upstream(len(target)).to(of_rows.dtype))
    return of_rows.detach(), gradient


def uniform_loss(kind: type[RegularizedMax], number: int) -> float:
    """Of one of so many classes with equal scores: Omega of the class less that of the uniform distribution."""
    if kind is Softmax:
        return math.log(number)
    return (1 - 1 / number) / 2 if kind is Sparsemax else (1 - number**-0.5) * 4 / 3


@every_kernel
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gamma", [1e-3, 1.0, 1e4, 1e300])
@pytest.mark.parametrize("length", [1, 2, 8, 9, 255, 1000, 5000])
def test_equal_scores_among_low_ones(kind, dtype, gamma, length):
    """The equal scores are spread over the row, the low ones have no weight, and -inf no place in the problem."""
    scores = torch.full((3, 2 * length), -math.inf, dtype=dtype)
    scores[:, ::2] = torch.tensor([[0.0], [-7.0], [1e5]])
    if gamma < 1e30:
        scores[:, 1::4] = -1e30
    target = torch.tensor([0, 2 * length - 2, length // 2 * 2])
    of_rows, gradient = losses_and_gradients(scores, target, kind(gamma))
    expected = torch.full((3,), gamma * uniform_loss(kind, length), dtype=torch.float64).to(dtype)
    tolerance = 1e-13 if dtype == torch.float64 else 1e-6
    assert_close(of_rows, expected, rtol=tolerance, atol=tolerance * min(gamma, 1))
    weights = (scores > -1e20).double() / length
    expected = upstream(3).unsqueeze(1) * (weights - torch.nn.functional.one_hot(target, 2 * length))
    assert_close(gradient, expected.to(dtype), rtol=tolerance, atol=tolerance)


@every_kernel
@pytest.mark.parametrize("scale", [1e-3, 0.1, 1.0, 30.0, 1e30])
def test_gradients_of_long_rows_are_the_weights_less_the_target(kind, scale):
    for dtype in (torch.float32, torch.float64):
        scores, target = scale * random_scores(4, 3000, dtype=dtype), torch.tensor([0, 256, 1000, 2999])
        of_rows, gradient = losses_and_gradients(scores, target, kind())
        assert of_rows.isfinite().all() and (of_rows >= 0).all()
        weights = torch.ones(()).to(gradient.dtype) * gradient / torch.linspace(1, 2, 4, dtype=dtype).unsqueeze(1)
        weights = weights + torch.nn.functional.one_hot(target, 3000)
        assert_close(
            weights.double(), kind()(scores.double()), rtol=1e-5, atol=1e-6 if dtype == torch.float32 else 1e-11
        )


def test_the_exponential_function():
    assert losses._exponential(0.0) == 1.0 and losses._exponential(-math.inf) == 0.0
    for number in [*torch.linspace(-707, 0, 2000, dtype=torch.float64).tolist(), -1e-300, -1e-9, -math.log(2) / 2]:
        # An error in the last digit of a number is one of that size in its exponential.
        assert losses._exponential(number) == pytest.approx(math.exp(number), rel=3e-16 * (2 - number), abs=0)


def test_scores_about_the_threshold_do_not_keep_the_search_going():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randint(-4, 5, (2_000, 300), generator=generator, dtype=torch.float64) * 2.0**-52 - 2.0
    scores[:, 7] = 0.0
    of_rows, _ = losses_and_gradients(scores, torch.full((2_000,), 7), Entmax())
    assert (of_rows >= 0).all() and (of_rows < 1e-14).all()


@every_kernel
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(kind, dtype):
    scores, target, mask = random_scores(4, 300, dtype=dtype), torch.tensor([0, 1, -100, 0]), random_mask(4, 300)
    mask[:, 1] = True
    results = losses_and_gradients(scores, target, kind(), mask)
    expected = losses_and_gradients(scores.float(), target, kind(), mask)
    assert results[0].dtype == results[1].dtype == dtype
    assert_close(results[0], expected[0].to(dtype), rtol=0, atol=0)
    assert_close(results[1], expected[1].to(dtype), rtol=0.01, atol=1e-4)


@every_kernel
def test_threads_share_the_rows(kind, monkeypatch):
    # As many rows as classes: what is for each class must not be taken for what is for each row.
    scores, target, mask = random_scores(100, 100), torch.arange(100), random_mask(100, 100)
    target[::9] = -100
    weight = random_scores(100, seed=1).square()

    def run():
        leaf = scores.clone().requires_grad_()
        of_rows = fenchel_young_loss(leaf, target, kind(), mask, "none", weight=weight, label_smoothing=0.1)
        return of_rows.detach(), torch.autograd.grad(of_rows[of_rows.isfinite()].sum(), leaf)[0]

    expected = run()
    monkeypatch.setattr(cpu, "SCORES_PER_THREAD", 100)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert_close(run(), expected, rtol=0, atol=0)


@every_kernel
def test_memory_is_that_of_the_gradient(kind):
    scores, target = random_scores(8, 4096).requires_grad_(), torch.arange(8)
    saved = []

    def note(tensor):
        saved.append(tensor)
        return tensor

    def run():
        scores.grad = None
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            fenchel_young_loss(scores, target, kind(), label_smoothing=0.1).backward()

    run()
    large = [tensor for tensor in saved if tensor.numel() >= scores.numel()]
    assert {tensor.data_ptr() for tensor in large} == {scores.data_ptr()}
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run()
    # (Even a mask of one byte for each score would be seen.)
    sizes = [event.self_cpu_memory_usage for event in record.events()]
    assert [size for size in sizes if size >= scores.numel()] == [scores.numel() * scores.element_size()]
