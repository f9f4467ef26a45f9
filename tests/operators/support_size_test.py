import math

import pytest
import torch

from regattn_allennlp import sparsemax, support_size
from tests.operators.common import random_scores


def test_by_hand():
    weights = torch.tensor([[0.7, 0.3, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [math.nan, 0.0, 0.0]])
    sizes = support_size(weights)
    assert sizes.dtype == torch.int64 and sizes.tolist() == [2, 1, 0, 1]
    assert support_size(weights, dim=0).tolist() == [3, 1, 0]
    assert support_size(weights.bfloat16()[0]).item() == 2


def test_compiled_and_mapped_and_traced():
    weights = sparsemax(random_scores(4, 3, 5))
    expected = support_size(weights)
    assert torch.equal(torch.func.vmap(support_size)(weights), expected)
    compiled = torch.compile(support_size, fullgraph=True, dynamic=True, backend="aot_eager")
    assert torch.equal(compiled(weights), expected)

    class Model(torch.nn.Module):
        def forward(self, weights):
            return support_size(weights)

    traced = torch.fx.symbolic_trace(Model())
    assert [node.op for node in traced.graph.nodes] == ["placeholder", "call_function", "output"]
    assert torch.equal(traced(weights), expected)


def test_wrong_arguments_are_named():
    with pytest.raises(TypeError, match=r"weights must be a torch.Tensor.*list"):
        support_size([0.5, 0.5])
    with pytest.raises(TypeError, match="dim must be a whole number"):
        support_size(torch.zeros(3), dim=0.5)
