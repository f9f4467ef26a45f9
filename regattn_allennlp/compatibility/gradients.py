"""Gradients that are clipped."""

import functools
from collections.abc import Iterable
from typing import Any, Union

from regattn_allennlp.compatibility.mend import mend

TESTS = "tests/compatibility/gradients_test.py"


@mend(
    "allennlp.training.gradient_descent_trainer",
    puts_back="`grad_clipping` with sparse embeddings",
    versions="torch>=2",
    test=f"{TESTS}::test_sparse_gradients_are_clipped_like_dense_ones",
)
def clip_sparse_gradients(trainers: Any) -> None:
    # PyTorch's clip_grad_value_ takes no sparse gradient: they are clipped beside it.
    trainer = trainers.GradientDescentTrainer
    clip_gradient = trainer.clip_gradient

    @functools.wraps(clip_gradient)
    def clip_gradient_of_any_layout(self: Any) -> None:
        from allennlp.nn.util import clamp_tensor

        parameters = [parameter for parameter in self.model.parameters() if parameter.grad is not None]
        sparse = [parameter for parameter in parameters if parameter.grad.is_sparse]
        if self._grad_clipping is None or not sparse:
            return clip_gradient(self)
        if self._scaler is not None:
            state = self._scaler._per_optimizer_states[id(self.optimizer)]
            if state["stage"] is not trainers.OptState.UNSCALED:
                self._scaler.unscale_(self.optimizer)
        clipped = [clamp_tensor(parameter.grad, -self._grad_clipping, self._grad_clipping) for parameter in sparse]
        for parameter in sparse:
            parameter.grad = None
        clip_gradient(self)
        for parameter, gradient in zip(sparse, clipped, strict=True):
            parameter.grad = gradient

    trainer.clip_gradient = clip_gradient_of_any_layout


@mend(
    "allennlp.training.gradient_descent_trainer",
    puts_back="`grad_norm` with sparse embeddings",
    versions="torch<2.14",
    test=f"{TESTS}::test_sparse_gradients_are_clipped_like_dense_ones",
)
@mend(
    "allennlp.nn.parallel.ddp_accelerator",
    puts_back="The same for distributed training",
    versions="torch<2.14",
    test=f"{TESTS}::test_sparse_gradients_are_rescaled_in_distributed_training_and_by_hand",
)
@mend(
    "allennlp.training.util",
    puts_back="The same for `rescale_gradients` in a training loop of one's own",
    versions="torch<2.14",
    test=f"{TESTS}::test_sparse_gradients_are_rescaled_in_distributed_training_and_by_hand",
)
def take_the_norm_of_sparse_gradients(module: Any) -> None:
    # PyTorch's clip_grad_norm_ could not: it is given the values alone, which it scales in place.
    import torch

    clip_grad_norm_ = module.clip_grad_norm_

    def with_dense_gradient(parameter: torch.Tensor) -> torch.Tensor:
        if parameter.grad is None or not parameter.grad.is_sparse:
            return parameter
        parameter.grad = parameter.grad.coalesce()
        values = parameter.grad._values()
        stand_in = values.detach()
        stand_in.grad = values
        return stand_in

    @functools.wraps(clip_grad_norm_)
    def clip_grad_norm_of_any_layout(
        parameters: Union[torch.Tensor, Iterable[torch.Tensor]], *arguments: Any, **options: Any
    ) -> torch.Tensor:
        if isinstance(parameters, torch.Tensor):
            parameters = [parameters]
        return clip_grad_norm_(list(map(with_dense_gradient, parameters)), *arguments, **options)

    module.clip_grad_norm_ = clip_grad_norm_of_any_layout
