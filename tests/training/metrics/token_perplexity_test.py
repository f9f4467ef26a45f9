import math

import pytest
import torch

from regattn_allennlp.training.metrics import TokenPerplexity


def test_each_token_counts_once():
    perplexity = TokenPerplexity()
    assert perplexity.get_metric() is None
    perplexity(torch.tensor([0.5, 0.25, 0.125]).log())
    perplexity(torch.tensor([1.0]).log())
    # The geometric mean of 1/2, 1/4, 1/8 and 1 is 2^(-6/4).
    assert perplexity.get_metric(reset=True) == pytest.approx(2**1.5)
    assert perplexity.get_metric() is None


def test_what_is_too_large_is_infinite():
    perplexity = TokenPerplexity()
    perplexity(torch.tensor([-1e5]))
    assert perplexity.get_metric() == math.inf
