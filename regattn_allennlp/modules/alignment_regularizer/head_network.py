import math
from typing import Any

import torch


class HeadNetwork(torch.nn.Module):
    """
    A feedforward network with one hidden layer, applied to the vectors of each head; each head has its own weights, or
    all have the same.

    Its initial weights are drawn aside: the rest of the model starts with the numbers it would start with alone.

    # Parameters

    num_heads : `int`
        1 for a network that all heads share.
    adversary : `bool`
        Whether the network is trained against the rest of the model: what is computed has its gradients as it is, but
        those of this network's weights are reversed (Ganin et al. 2016, arXiv 1505.07818, section 4.2), so that an
        optimizer that lowers the loss by everything else raises it by them.
    """

    def __init__(self, num_heads: int, input_dim: int, hidden_dim: int, output_dim: int, adversary: bool) -> None:
        super().__init__()
        self._adversary = adversary
        with torch.random.fork_rng(devices=[]):
            self._hidden_weight = _uniform(input_dim, (num_heads, input_dim, hidden_dim))
            self._output_weight = _uniform(hidden_dim, (num_heads, hidden_dim, output_dim))
        self._hidden_bias = torch.nn.Parameter(torch.zeros(num_heads, 1, hidden_dim))
        self._output_bias = torch.nn.Parameter(torch.zeros(num_heads, 1, output_dim))

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """
        Shape (batch_size, num_heads, num_tokens, input_dim) gives (batch_size, num_heads, num_tokens, output_dim).
        """
        parameters = (self._hidden_weight, self._hidden_bias, self._output_weight, self._output_bias)
        dtype = vectors.dtype
        hidden_weight, hidden_bias, output_weight, output_bias = (
            (_ReversedGradient.apply(parameter) if self._adversary else parameter).to(dtype)
            for parameter in parameters
        )
        hidden = torch.nn.functional.gelu(vectors @ hidden_weight + hidden_bias)
        return hidden @ output_weight + output_bias


def _uniform(input_dim: int, shape: tuple[int, ...]) -> torch.nn.Parameter:
    """As torch.nn.Linear starts."""
    bound = 1 / math.sqrt(input_dim)
    return torch.nn.Parameter(torch.empty(shape).uniform_(-bound, bound))


class _ReversedGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parameter: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return parameter.view_as(parameter)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return -gradient
