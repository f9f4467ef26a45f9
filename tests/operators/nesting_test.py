"""Forward and reverse mode in every order, three deep, for weights, values and losses: against finite differences."""

import functools
import itertools

import pytest
import torch
from torch import Tensor
from torch.func import grad, jacfwd, jacrev, jvp, vmap

from regattn_allennlp import CustomMax, RegularizedMax, Sparsemax, fenchel_young_loss
from tests.operators.common import NAMES, random_scores

SCORES = torch.tensor([1.0, 0.8, 0.75, -0.1, -3.0, 0.3], dtype=torch.float64)
DIRECTION = torch.tensor([0.3, -0.2, 0.5, 0.4, -0.6, 0.1], dtype=torch.float64)
TARGET = torch.tensor([0.1, 0.2, 0.3, 0.2, 0.1, 0.1], dtype=torch.float64)
# A step along a curve of scores, gamma, and lam or what alpha is above 1.2 and upper above 0.3.
POINT = torch.tensor([0.1, 1.2, 0.11], dtype=torch.float64)

every_operator = pytest.mark.parametrize("name", [*NAMES, "custom"])


def tsallis(weights: Tensor) -> Tensor:
    return 4 / 3 * (weights**1.5 - weights).sum()


def build(name: str, gamma: Tensor, lam: Tensor) -> RegularizedMax:
    if name == "custom":
        return CustomMax(tsallis, gamma)
    own = {"fusedmax": {"lam": lam}, "oscarmax": {"lam": lam}, "entmax": {"alpha": 1.2 + lam}}
    own["constrained_sparsemax"] = {"upper": 0.3 + lam}
    return RegularizedMax.by_name(name)(gamma=gamma, **own.get(name, {}))


def results(name: str) -> dict:
    def scores(point: Tensor) -> Tensor:
        return SCORES + point[0] * DIRECTION + 0.3 * point[0] ** 2 * DIRECTION.flip(0)

    return {
        "weights": lambda point: (build(name, point[1], point[2])(scores(point)) * DIRECTION).sum(),
        "value": lambda point: build(name, point[1], point[2]).value(scores(point)),
        "loss": lambda point: fenchel_young_loss(scores(point), TARGET, build(name, point[1], point[2])),
    }


def finite_differences(function, step: float = 1e-5) -> Tensor:
    """Of a function of a point, by each of its coordinates: the last dimension."""
    steps = step * torch.eye(len(POINT), dtype=POINT.dtype)
    columns = [(function(POINT + along) - function(POINT - along)) / (2 * step) for along in steps]
    return torch.stack(columns, -1).detach()


@every_operator
@pytest.mark.parametrize("result", ["weights", "value", "loss"])
def test_every_order_of_forward_and_reverse_mode(name, result):
    function = results(name)[result]
    reference = function  # the derivatives below, by reverse mode alone, which are checked in turn
    for order in (1, 2, 3):
        expected = finite_differences(reference)
        assert expected.abs().max() > 1e-3
        for modes in itertools.product((jacfwd, jacrev), repeat=order):
            nested = functools.reduce(lambda inner, mode: mode(inner), modes, function)
            derivative = nested(POINT)
            names = " of ".join(mode.__name__ for mode in reversed(modes))
            torch.testing.assert_close(derivative, expected, rtol=1e-5, atol=1e-6, msg=lambda text, n=names: n + text)
        reference = jacrev(reference)


@every_operator
def test_vmap_between_the_derivatives(name):
    """A batch inside, between and outside of two derivatives, where each may be in either mode."""
    rows = random_scores(3, 5)
    direction = random_scores(5, seed=1)

    def weights(row: Tensor) -> Tensor:
        return build(name, torch.tensor(1.2), torch.tensor(0.11))(row) * direction

    def along(function):
        return lambda row: jvp(function, (row,), (torch.ones_like(row) * direction,))[1]

    def summed(function):
        return grad(lambda row: function(row).square().sum())

    for first, second in itertools.product((along, summed), repeat=2):
        expected = torch.stack([second(first(weights))(row) for row in rows])
        for nested in (
            second(first(vmap(weights))),
            second(vmap(first(weights))),
            vmap(second(first(weights))),
        ):
            torch.testing.assert_close(nested(rows), expected)


def test_forward_over_forward_is_not_zero():
    scores = torch.tensor([1.0, 0.8, -3.0])
    expected = torch.tensor([[0.5, -0.5, 0.0], [-0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(jacfwd(jacfwd(Sparsemax().value))(scores), expected)


def test_reverse_mode_of_nested_forward_mode_outside_of_torch_func():
    point = POINT.clone().requires_grad_()
    for name in NAMES:
        function = results(name)["weights"]
        (gradient,) = torch.autograd.grad(jacfwd(jacfwd(function))(point)[0, 1], point)
        torch.testing.assert_close(gradient, jacrev(jacrev(jacrev(function)))(POINT)[0, 1])
