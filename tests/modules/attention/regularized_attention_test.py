import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.modules.attention import Attention
from allennlp.modules.matrix_attention import MatrixAttention

import regattn_allennlp
from regattn_allennlp.modules.attention import RegularizedAttention

DIM = 4

OPERATORS = {
    "softmax": ({"gamma": 0.7}, regattn_allennlp.softmax),
    "sparsemax": ({"gamma": 0.7}, regattn_allennlp.sparsemax),
    "fusedmax": ({"gamma": 0.7, "lam": 0.3}, regattn_allennlp.fusedmax),
    "oscarmax": ({"gamma": 0.7, "lam": 0.3}, regattn_allennlp.oscarmax),
}

# The similarities that AllenNLP has in matrix form, and as an `Attention`, with the arguments each of them needs.
MATRIX_SIMILARITIES = [
    {"type": "dot_product"},
    {"type": "scaled_dot_product"},
    {"type": "cosine"},
    {"type": "bilinear", "matrix_1_dim": DIM, "matrix_2_dim": DIM},
    {"type": "linear", "tensor_1_dim": DIM, "tensor_2_dim": DIM},
]
VECTOR_SIMILARITIES = [
    {"type": "additive", "vector_dim": DIM, "matrix_dim": DIM},
    {"type": "bilinear", "vector_dim": DIM, "matrix_dim": DIM},
    {"type": "scaled_dot_product", "scaling_factor": 2},
]


def build(**config) -> RegularizedAttention:
    attention = Attention.from_params(Params(config))
    assert isinstance(attention, RegularizedAttention)
    return attention


def inputs(num_rows_1: int = 3, num_rows_2: int = 5) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    matrix_1 = torch.randn(2, num_rows_1, DIM, generator=generator)
    matrix_2 = torch.randn(2, num_rows_2, DIM, generator=generator)
    mask = torch.tensor([[True] * num_rows_2, [True] * (num_rows_2 - 2) + [False] * 2])
    return matrix_1, matrix_2, mask


@pytest.mark.parametrize("name", OPERATORS)
def test_a_registered_attention_is_its_operator_on_the_similarities(name):
    arguments, operator = OPERATORS[name]
    matrix_1, matrix_2, mask = inputs()
    weights = build(type=name, **arguments)(matrix_1[:, 0], matrix_2, mask)
    dot_products = torch.einsum("bd,bnd->bn", matrix_1[:, 0], matrix_2)  # the default similarity
    torch.testing.assert_close(weights, operator(dot_products, mask, **arguments))
    assert (weights[1, 3:] == 0).all()


def test_regularized_attention_takes_any_operator_by_name():
    matrix_1, matrix_2, mask = inputs()
    named = build(type="regularized", regularized_max={"type": "oscarmax", "lam": 0.3})
    short = build(type="oscarmax", lam=0.3)
    assert torch.equal(named(matrix_1[:, 0], matrix_2, mask), short(matrix_1[:, 0], matrix_2, mask))


@pytest.mark.parametrize("similarity", MATRIX_SIMILARITIES + VECTOR_SIMILARITIES, ids=str)
def test_matrix_form_and_vector_form_agree_for_every_similarity(similarity):
    torch.manual_seed(0)
    attention = build(type="sparsemax", similarity=dict(similarity))
    matrix_1, matrix_2, mask = inputs()
    scores = attention.scores(matrix_1, matrix_2)
    weights = attention.weights(scores, mask.unsqueeze(1))
    assert scores.shape == (2, 3, 5)
    for row in range(3):
        torch.testing.assert_close(weights[:, row], attention(matrix_1[:, row], matrix_2, mask))


@pytest.mark.parametrize("similarity", MATRIX_SIMILARITIES, ids=str)
def test_scores_are_those_of_allennlps_matrix_attention(similarity):
    torch.manual_seed(0)
    attention = build(type="softmax", similarity=dict(similarity))
    torch.manual_seed(0)
    allennlps_own = MatrixAttention.from_params(Params(dict(similarity)))
    matrix_1, matrix_2, _ = inputs()
    torch.testing.assert_close(attention.scores(matrix_1, matrix_2), allennlps_own(matrix_1, matrix_2))


@pytest.mark.parametrize("similarity", VECTOR_SIMILARITIES, ids=str)
def test_softmax_attention_equals_allennlps_own_attention(similarity):
    torch.manual_seed(0)
    attention = build(type="softmax", similarity=dict(similarity))
    torch.manual_seed(0)
    allennlps_own = Attention.from_params(Params(dict(similarity)))
    matrix_1, matrix_2, mask = inputs()
    vector = matrix_1[:, 0]
    torch.testing.assert_close(attention(vector, matrix_2, mask), allennlps_own(vector, matrix_2, mask))


def test_without_normalize_the_scores_are_given():
    matrix_1, matrix_2, mask = inputs()
    scores = build(type="fusedmax", normalize=False)(matrix_1[:, 0], matrix_2, mask)
    torch.testing.assert_close(scores, torch.einsum("bd,bnd->bn", matrix_1[:, 0], matrix_2))


def test_gradients_reach_a_similarity_that_learns():
    attention = build(type="fusedmax", gamma=10.0, lam=0.01, similarity=dict(MATRIX_SIMILARITIES[3]))
    matrix_1, matrix_2, mask = inputs()
    (attention(matrix_1[:, 0], matrix_2, mask) * torch.arange(5.0)).sum().backward()
    assert all(parameter.grad is not None for parameter in attention.parameters())
    assert attention.similarity._weight_matrix.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "config, message",
    [
        ({"type": "fusedmax", "lam": -0.5}, "lam must be .* but is -0.5"),
        ({"type": "sparsemax", "gamma": 0}, "gamma must be .* but is 0"),
        ({"type": "sparsemax", "lam": 0.5}, "lam"),
        ({"type": "softmax", "similarity": {"type": "sparsemax"}}, "similarity"),
        ({"type": "softmax", "similarity": {"type": "dot_produkt"}}, "similarity"),
        ({"type": "regularized", "regularized_max": {"type": "sparsemix"}}, "sparsemix.*sparsemax"),
        ({"type": "regularized", "regularized_max": {"gamma": 2.0}}, "type.*sparsemax"),
    ],
    ids=str,
)
def test_a_wrong_config_is_named(config, message):
    with pytest.raises((ConfigurationError, ValueError), match=message):
        build(**config)
