"""The optimizer of the Transformers library that AllenNLP's `huggingface_adamw` is made of."""

from collections.abc import Callable, Iterable
from typing import Any, Optional

import torch


class TransformersAdamW(torch.optim.Optimizer):
    """
    AdamW as Transformers had it until 4.49. It differs from PyTorch's: `eps` is added before the bias is corrected,
    the correction can be left out, and weights decay after the step, not before it. A state that Transformers' own
    saved can be loaded, and the other way round.

    # Parameters

    lr : `float`, optional (default = `1e-3`)
    betas : `Tuple[float, float]`, optional (default = `(0.9, 0.999)`)
        How much of the mean of the gradients, and of their squares, is kept in a step.
    eps : `float`, optional (default = `1e-6`)
    weight_decay : `float`, optional (default = `0.0`)
        The part of a weight, times `lr`, that it loses in each step.
    correct_bias : `bool`, optional (default = `True`)
        Whether both means are corrected for having begun with 0. BERT was trained without.

    # Raises

    `ValueError`
        If `lr` or `eps` is negative, or one of `betas` is not from 0 to below 1.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        correct_bias: bool = True,
    ) -> None:
        for name, value in {"lr": lr, "eps": eps}.items():
            if value < 0:
                raise ValueError(f'"{name}" must not be negative, but is {value}')
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f'"betas" must be from 0 to below 1, but are {list(betas)}')
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "correct_bias": correct_bias}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Optional[Callable[[], Any]] = None) -> Any:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, group)
        return loss

    def _step(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        gradient = parameter.grad
        assert gradient is not None
        if gradient.is_sparse:
            raise RuntimeError('"huggingface_adamw" takes no sparse gradients: use "dense_sparse_adam" for them')
        state = self.state[parameter]
        if not state:
            state.update(step=0, exp_avg=torch.zeros_like(parameter), exp_avg_sq=torch.zeros_like(parameter))
        state["step"] += 1
        (beta1, beta2), rate = group["betas"], group["lr"]
        mean = state["exp_avg"].lerp_(gradient, 1 - beta1)
        mean_square = state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        step_size = rate
        if group["correct_bias"]:
            step_size *= (1 - beta2 ** state["step"]) ** 0.5 / (1 - beta1 ** state["step"])
        parameter.addcdiv_(mean, mean_square.sqrt().add_(group["eps"]), value=-step_size)
        parameter.mul_(1 - rate * group["weight_decay"])
