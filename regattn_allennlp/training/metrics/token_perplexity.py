import math
from typing import Optional

import torch
from allennlp.nn.util import dist_reduce_sum
from allennlp.training.metrics import Metric


@Metric.register("token_perplexity")
class TokenPerplexity(Metric):
    """
    exp(-mean log p) over all tokens of all batches and processes, each token counting once: AllenNLP's "perplexity" is
    of the mean of the batches' means.

    Registered as a `Metric` with name "token_perplexity".
    """

    def __init__(self) -> None:
        self._log_probability = 0.0
        self._num_tokens = 0.0

    def __call__(self, log_probs: torch.Tensor) -> None:  # type: ignore[override]
        """
        # Parameters

        log_probs : `torch.Tensor`
            The logarithms of the tokens' probabilities, in nats; any shape, no padding.
        """
        # The tokens of a corpus are too many for the sums of float32.
        total = log_probs.detach().sum(dtype=torch.float64)
        sums = dist_reduce_sum(torch.stack([total, total.new_tensor(log_probs.numel())]))
        log_probability, num_tokens = sums.tolist()
        self._log_probability += log_probability
        self._num_tokens += num_tokens

    def get_metric(self, reset: bool = False) -> Optional[float]:
        """The perplexity so far: at least 1, infinite if it is too large a number; `None` before any token."""
        perplexity = None
        if self._num_tokens:
            try:
                perplexity = math.exp(-self._log_probability / self._num_tokens)
            except OverflowError:
                perplexity = math.inf
        if reset:
            self.reset()
        return perplexity

    def reset(self) -> None:
        self._log_probability = 0.0
        self._num_tokens = 0.0
