"""What every operator is checked for beside its weights: PyTorch's transforms of functions."""

import torch
from torch.testing import assert_close

from tests.operators.common import random_scores


def check_function_transforms(operator):
    """torch.func.grad, vmap, jvp, jacrev and their nesting, against autograd and one row at a time."""
    scores, change = random_scores(4, 5), random_scores(4, 5, seed=1)
    upstream = random_scores(4, 5, seed=2)

    leaf = scores.clone().requires_grad_()
    (expected_gradient,) = torch.autograd.grad((operator(leaf) * upstream).sum(), leaf)
    gradient = torch.func.grad(lambda scores: (operator(scores) * upstream).sum())(scores)
    assert_close(gradient, expected_gradient)

    assert_close(torch.func.vmap(operator)(scores), operator(scores))
    assert_close(torch.func.vmap(operator, in_dims=1, out_dims=1)(scores.t().contiguous()), operator(scores).t())

    jacobians = torch.func.vmap(torch.func.jacrev(operator))(scores)
    for row, jacobian in zip(scores, jacobians, strict=True):
        assert_close(jacobian, torch.autograd.functional.jacobian(operator, row))
    weights, tangent = torch.func.jvp(operator, (scores,), (change,))
    assert_close(weights, operator(scores))
    assert_close(tangent, torch.einsum("bij,bj->bi", jacobians, change))

    second = torch.func.jacrev(torch.func.jacrev(operator))(scores[0])
    assert second.abs().sum() > 0
    assert_close(torch.func.jacfwd(torch.func.jacrev(operator))(scores[0]), second)
    assert_close(torch.func.jacrev(torch.func.jacfwd(operator))(scores[0]), second)


def check_compiled(function):
    """Compiled once in full for rows of any length, forward and backward, and equal to the function itself."""
    torch._dynamo.reset()
    compiled = torch.compile(function, fullgraph=True, dynamic=True, backend="aot_eager")
    for length in (5, 8, 13):
        results = []
        for run in (function, compiled):
            scores = random_scores(3, length, dtype=torch.float32).requires_grad_()
            with torch.compiler.set_stance("default" if length == 5 else "fail_on_recompile"):
                weights = run(scores)
            weights.backward(random_scores(*weights.shape, seed=1, dtype=torch.float32))
            results.append((weights.detach(), scores.grad))
        assert_close(results[1], results[0])


def check_autocast(operator):
    """Autocast leaves the precision of the operator as it is."""
    scores = random_scores(4, 7, dtype=torch.float32).requires_grad_()
    results = []
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            weights = operator(scores)
            (gradient,) = torch.autograd.grad(weights.square().sum(), scores)
        assert weights.dtype == torch.float32
        results.append((weights, gradient))
    assert_close(results[1], results[0])
