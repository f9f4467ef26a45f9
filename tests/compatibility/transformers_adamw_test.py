"""With Transformers 4.49 these tests are of its own AdamW: both are the same."""

import pytest
import torch
from allennlp.common import Params
from allennlp.training.optimizers import Optimizer

RATE, DECAY, EPS = 0.05, 0.2, 0.3  # large enough to matter


def optimizer_of(parameters: dict[str, torch.nn.Parameter], **fields: object) -> Optimizer:
    config = {"type": "huggingface_adamw", "lr": RATE, "weight_decay": DECAY, "eps": EPS, "betas": [0.8, 0.9]}
    return Optimizer.from_params(Params(config | fields), model_parameters=list(parameters.items()))


def take_step(optimizer: Optimizer, parameter: torch.nn.Parameter, gradient: torch.Tensor) -> None:
    parameter.grad = gradient.clone()
    optimizer.step()


@pytest.mark.parametrize("correct_bias", [True, False])
def test_it_steps_as_the_transformers_library_did(correct_bias):
    torch.manual_seed(1)
    gradients = torch.randn(5, 4, dtype=torch.float64)
    parameter = torch.nn.Parameter(torch.randn(4, dtype=torch.float64))
    optimizer = optimizer_of({"weight": parameter}, correct_bias=correct_bias)
    expected = parameter.detach().clone()
    for number in range(1, len(gradients) + 1):
        take_step(optimizer, parameter, gradients[number - 1])
        # Both means as sums over all gradients so far, not step by step.
        ages = torch.arange(number - 1, -1, -1, dtype=torch.float64)[:, None]
        mean = (0.2 * 0.8**ages * gradients[:number]).sum(0)
        mean_square = (0.1 * 0.9**ages * gradients[:number] ** 2).sum(0)
        correction = (1 - 0.9**number) ** 0.5 / (1 - 0.8**number) if correct_bias else 1.0
        expected = expected - RATE * correction * mean / (mean_square.sqrt() + EPS)
        expected = expected * (1 - RATE * DECAY)
        torch.testing.assert_close(parameter.detach(), expected)


def test_a_saved_state_goes_on(tmp_path):
    torch.manual_seed(2)
    start, gradients = torch.randn(4), torch.randn(6, 4)
    whole, halves = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    optimizer = optimizer_of({"weight": whole})
    for gradient in gradients:
        take_step(optimizer, whole, gradient)
    for half in gradients.chunk(2):
        optimizer = optimizer_of({"weight": halves})
        if (tmp_path / "state").exists():
            optimizer.load_state_dict(torch.load(tmp_path / "state"))
        for gradient in half:
            take_step(optimizer, halves, gradient)
        torch.save(optimizer.state_dict(), tmp_path / "state")
    assert halves.equal(whole)
    (state,) = optimizer.state_dict()["state"].values()
    assert state["step"] == 6 and state.keys() == {"step", "exp_avg", "exp_avg_sq"}


def test_it_trains():
    torch.manual_seed(3)
    inputs, targets = torch.randn(50, 3), torch.randn(50, 1)
    model = torch.nn.Linear(3, 1)
    optimizer = optimizer_of(dict(model.named_parameters()), eps=1e-8, weight_decay=0.0)
    extended = torch.cat([inputs, torch.ones(50, 1)], dim=1)
    best = (extended @ torch.linalg.lstsq(extended, targets).solution - targets).square().sum()

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        error = (model(inputs) - targets).square().sum()
        error.backward()
        return error

    for _ in range(300):
        loss()
        optimizer.step()
    torch.testing.assert_close(loss().detach(), best, rtol=1e-3, atol=0)


def test_parameters_without_a_gradient_stay_and_groups_have_their_own_rates():
    parameters = {name: torch.nn.Parameter(torch.ones(2)) for name in ("slow", "fast", "unused")}
    optimizer = optimizer_of(parameters, parameter_groups=[[["slow"], {"lr": RATE / 100, "weight_decay": 0.0}]])
    for name in "slow", "fast":
        parameters[name].grad = torch.ones(2)
    optimizer.step()
    moved = {name: (1 - parameter).sum().item() for name, parameter in parameters.items()}
    assert 0 < moved["slow"] < 0.02 * moved["fast"] and moved["unused"] == 0
