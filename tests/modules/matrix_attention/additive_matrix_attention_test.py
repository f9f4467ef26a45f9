import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.modules.attention import AdditiveAttention, Attention
from allennlp.modules.matrix_attention import MatrixAttention

import regattn_allennlp.modules.attention
import regattn_allennlp.modules.matrix_attention  # noqa: F401  (registers what the configs name)


def test_with_as_many_hidden_units_as_dimensions_it_is_allennlps():
    torch.manual_seed(0)
    peer = AdditiveAttention(vector_dim=3, matrix_dim=5, normalize=False)
    additive = MatrixAttention.from_params(Params({"type": "additive", "matrix_1_dim": 3, "matrix_2_dim": 5}))
    with torch.no_grad():
        additive._projection_1.weight.copy_(peer._w_matrix.T)
        additive._projection_2.weight.copy_(peer._u_matrix.T)
        additive._hidden_weights.weight.copy_(peer._v_vector.T)
    rows, memory = torch.randn(2, 4, 3), torch.randn(2, 6, 5)
    expected = torch.stack([peer(rows[:, number], memory) for number in range(4)], dim=1)
    torch.testing.assert_close(additive(rows, memory), expected)


def test_the_hidden_units_are_as_many_as_told():
    block = {"type": "additive", "matrix_1_dim": 3, "matrix_2_dim": 5, "hidden_dim": 7}
    attention = Attention.from_params(Params({"type": "sparsemax", "similarity": block}))
    shapes = sorted(tuple(parameter.shape) for parameter in attention.parameters())
    assert shapes == [(1, 7), (7, 3), (7, 5)]
    weights = attention(torch.randn(2, 3), torch.randn(2, 6, 5), torch.ones(2, 6, dtype=torch.bool))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2))


def test_allennlps_own_is_still_to_be_had():
    block = {"type": "additive", "vector_dim": 3, "matrix_dim": 5}
    attention = Attention.from_params(Params({"type": "softmax", "similarity": block}))
    assert isinstance(attention.similarity, AdditiveAttention)


def test_no_hidden_units_are_refused():
    block = {"type": "additive", "matrix_1_dim": 3, "matrix_2_dim": 5, "hidden_dim": 0}
    with pytest.raises(ConfigurationError, match='"hidden_dim" must be at least 1, but is 0'):
        MatrixAttention.from_params(Params(block))
