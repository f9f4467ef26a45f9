"""Gradient x input: how much each word moves what a model says, to first order."""

from collections.abc import Callable, Sequence

import torch


def gradient_times_input(
    embedder: torch.nn.Module, score: Callable[[], torch.Tensor], inputs: Sequence[torch.Tensor] = ()
) -> list[torch.Tensor]:
    """
    sum_d (d score / d x_id) x_id of each vector x_i that the embedder gives while `score` runs the model. Positive
    values are of words that raise the score. All of them sum to the score of a model that is linear in the vectors.

    # Parameters

    embedder : `torch.nn.Module`
    score : `Callable[[], torch.Tensor]`
        Runs the model; a scalar, such as the log-probability of a label.
    inputs : `Sequence[torch.Tensor]`, optional
        Of shape (..., dim), what the model is given besides words: their vectors are counted as well.

    # Returns

    For each call of the embedder, in order, and then for each of the inputs, shape (batch_size, num_vectors).
    """
    vectors: list[torch.Tensor] = []

    def watch(vector: torch.Tensor) -> torch.Tensor:
        # Whatever made it, parameters and transformers, needs no gradient.
        watched = vector.detach().requires_grad_()
        vectors.append(watched)
        return watched

    hook = embedder.register_forward_hook(lambda module, arguments, output: watch(output))
    try:
        # cuDNN has no gradient of recurrent layers that are not training.
        with torch.enable_grad(), torch.backends.cudnn.flags(enabled=False):
            value = score()
            vectors += inputs
            gradients = torch.autograd.grad(value, vectors, materialize_grads=True)
    finally:
        hook.remove()
    return [(gradient * vector).sum(-1).detach() for gradient, vector in zip(gradients, vectors, strict=True)]
