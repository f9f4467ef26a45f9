import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.modules.attention import Attention

import regattn_allennlp
from regattn_allennlp.modules.attention import (
    ConstrainedSparsemaxAttention,
    CustomMaxAttention,
    EntmaxAttention,
    NormmaxAttention,
    SquaredPNormMaxAttention,
    TopKSparsemaxAttention,
)


def half_square(weights: torch.Tensor) -> torch.Tensor:
    return weights.square().sum() / 2


CONFIGS = [
    (
        EntmaxAttention,
        {"type": "entmax", "gamma": 0.7, "alpha": 1.25},
        lambda scores, mask: regattn_allennlp.entmax(scores, mask, gamma=0.7, alpha=1.25),
    ),
    (
        SquaredPNormMaxAttention,
        {"type": "squared_p_norm_max", "gamma": 0.7, "exponent": 1.25},
        lambda scores, mask: regattn_allennlp.squared_p_norm_max(scores, mask, gamma=0.7, exponent=1.25),
    ),
    (
        ConstrainedSparsemaxAttention,
        {"type": "constrained_sparsemax", "gamma": 0.7, "upper": 0.3, "budget": 0.8},
        lambda scores, mask: regattn_allennlp.constrained_sparsemax(scores, mask, gamma=0.7, upper=0.3, budget=0.8),
    ),
    (
        TopKSparsemaxAttention,
        {"type": "top_k_sparsemax", "gamma": 0.7, "top_k": 2},
        lambda scores, mask: regattn_allennlp.top_k_sparsemax(scores, mask, gamma=0.7, top_k=2),
    ),
    (
        NormmaxAttention,
        {"type": "normmax", "gamma": 0.7, "exponent": 3.0},
        lambda scores, mask: regattn_allennlp.normmax(scores, mask, gamma=0.7, exponent=3.0),
    ),
    (
        CustomMaxAttention,
        {"type": "custom", "gamma": 0.7, "omega_function": f"{__name__}.half_square"},
        lambda scores, mask: regattn_allennlp.sparsemax(scores, mask, gamma=0.7),
    ),
]


every_attention = pytest.mark.parametrize(
    "attention_class, config, operator", CONFIGS, ids=[config["type"] for _, config, _ in CONFIGS]
)


def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.tensor([[True] * 5, [True, True, True, False, False]])
    return torch.randn(2, 4, generator=generator), torch.randn(2, 5, 4, generator=generator), mask


@every_attention
@pytest.mark.parametrize("short", [True, False])
def test_an_attention_is_its_operator_on_the_similarities(attention_class, config, operator, short):
    if short:
        attention = Attention.from_params(Params(dict(config)))
        assert type(attention) is attention_class
    else:
        attention = Attention.from_params(Params({"type": "regularized", "regularized_max": dict(config)}))
    vector, matrix, mask = inputs()
    weights = attention(vector, matrix, mask)
    torch.testing.assert_close(weights, operator(torch.einsum("bd,bnd->bn", vector, matrix), mask))
    assert (weights[1, 3:] == 0).all()


@pytest.mark.parametrize("name", Attention.list_available())
def test_every_attention_is_built_without_more_arguments_than_sizes(name):
    attention_class = Attention.by_name(name)
    sizes = (4, 4) if name in ("additive", "bilinear", "linear") else ()
    vector, matrix, mask = inputs()
    weights = attention_class(*sizes)(vector, matrix, mask)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2))
    if name in ("regularized", "custom"):
        expected = regattn_allennlp.softmax(torch.einsum("bd,bnd->bn", vector, matrix), mask)
        torch.testing.assert_close(weights, expected)


@every_attention
def test_what_is_learned_is_a_parameter_of_the_attention(attention_class, config, operator):
    learned = {"learn_gamma": True} | ({"learn_alpha": True} if config["type"] == "entmax" else {})
    attention = Attention.from_params(Params({**config, "gamma": 5.0, **learned}))
    vector, matrix, mask = inputs()
    attention(vector, matrix, mask).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in attention.named_parameters()}
    expected = {"learn_gamma": "regularized_max.log_gamma", "learn_alpha": "regularized_max.logit_alpha"}
    assert set(gradients) == {expected[name] for name in learned}
    assert all(gradient != 0 for gradient in gradients.values())


@every_attention
def test_similarity_and_normalize(attention_class, config, operator):
    vector, matrix, mask = inputs()
    attention = Attention.from_params(Params({**config, "similarity": {"type": "cosine"}, "normalize": False}))
    cosines = torch.cosine_similarity(vector.unsqueeze(1), matrix, dim=-1)
    torch.testing.assert_close(attention(vector, matrix, mask), cosines)


@pytest.mark.parametrize(
    "config, message",
    [
        ({"type": "entmax", "alpha": 0.5}, "alpha must be .* but is 0.5"),
        ({"type": "entmax", "alpha": 3.0, "learn_alpha": True, "max_alpha": 2.5}, "below max_alpha = 2.5"),
        ({"type": "squared_p_norm_max", "exponent": 3}, "exponent must be .* but is 3"),
        ({"type": "constrained_sparsemax", "upper": 0}, "upper must be .* but is 0"),
        ({"type": "top_k_sparsemax", "top_k": 0}, "top_k must be .* but is 0"),
        ({"type": "normmax", "exponent": 1}, "exponent must be .* but is 1"),
        ({"type": "custom", "omega_function": "no_such_package.omega"}, "no_such_package"),
    ],
    ids=str,
)
def test_a_wrong_config_is_named(config, message):
    with pytest.raises((ConfigurationError, ValueError), match=message):
        Attention.from_params(Params(config))
