"""Gradients that are clipped."""

import functools
from typing import Any

from regattn_allennlp.compatibility.mend import mend


@mend(
    "allennlp.training.gradient_descent_trainer",
    puts_back="`grad_clipping` with sparse embeddings",
    versions="torch>=2",
    test="tests/compatibility/gradients_test.py::test_sparse_gradients_are_clipped_like_dense_ones",
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
