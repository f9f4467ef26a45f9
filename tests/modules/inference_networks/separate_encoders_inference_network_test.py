import pytest
import torch
from allennlp.common import Lazy, Params
from allennlp.common.checks import ConfigurationError

from regattn_allennlp.modules.inference_networks import InferenceNetwork

MEMORY_DIM, QUERY_DIM, TARGET_DIM, SOURCE_DIM = 6, 5, 7, 3


def build(**config) -> InferenceNetwork:
    torch.manual_seed(0)
    lazy = Lazy(InferenceNetwork, params=Params({"type": "separate_encoders", **config}))
    return lazy.construct(
        memory_dim=MEMORY_DIM, query_dim=QUERY_DIM, target_dim=TARGET_DIM, source_dim=SOURCE_DIM
    ).double()


def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    return {
        "memory": normal(2, 4, SOURCE_DIM),
        "memory_mask": torch.tensor([[True] * 4, [True] * 2 + [False] * 2]),
        "queries": normal(2, 5, QUERY_DIM),
        "targets": normal(2, 5, TARGET_DIM),
        "target_mask": torch.tensor([[True] * 5, [True] * 3 + [False] * 2]),
    }


def test_by_default_the_encoders_are_as_large_as_the_models():
    network = build()
    for encoder, input_dim in ((network._source_encoder, SOURCE_DIM), (network._target_encoder, TARGET_DIM)):
        lstm = encoder._module
        assert (lstm.num_layers, lstm.bidirectional, lstm.input_size) == (2, True, input_dim)
        assert encoder.get_output_dim() == MEMORY_DIM


def test_scores_are_bilinear_in_what_the_encoders_say():
    network = build(hidden_dim=4, num_layers=1)
    tensors = inputs()
    source, target = (
        lstm(tensors[name])[0][0].detach()  # of the first item, which has no padding
        for lstm, name in ((network._source_encoder._module, "memory"), (network._target_encoder._module, "targets"))
    )
    weight = network._target_projection.weight.detach()
    expected = [[(weight @ target[t] @ source[i]).item() for i in range(4)] for t in range(5)]
    torch.testing.assert_close(network(**tensors)[0].detach(), torch.tensor(expected, dtype=torch.float64))


def test_it_sees_source_and_target_and_no_state_of_the_decoder():
    tensors = inputs()
    scores = build()(**tensors)
    gradients = torch.autograd.grad(
        scores[0].square().sum(), [tensors[name] for name in ("memory", "targets", "queries")], allow_unused=True
    )
    assert (gradients[0][0] != 0).all() and (gradients[1][0] != 0).all() and gradients[2] is None


def test_padding_does_not_matter():
    network = build()
    tensors = inputs()
    scores = network(**tensors)[1, :3, :2]
    with torch.no_grad():
        tensors["memory"][1, 2:] = 9.0
        tensors["targets"][1, 3:] = 9.0
    torch.testing.assert_close(network(**tensors)[1, :3, :2], scores)


@pytest.mark.parametrize("detach", [[], ["memory"], ["memory", "targets"]], ids=str)
def test_what_is_detached_gets_no_gradient(detach):
    tensors = inputs()
    network = build(detach=detach)
    network(**tensors).square().sum().backward()
    assert {name for name in ("memory", "targets") if tensors[name].grad is None} == set(detach)
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_any_encoders_will_do():
    network = build(
        source_encoder={"type": "gru", "input_size": SOURCE_DIM, "hidden_size": 4},
        target_encoder={"type": "lstm", "input_size": TARGET_DIM, "hidden_size": 2, "bidirectional": True},
        dropout=0.2,
    )
    assert network(**inputs()).shape == (2, 5, 4)


@pytest.mark.parametrize(
    "config, message",
    [
        ({"hidden_dim": 0}, '"hidden_dim" must be at least 1 in the inference network, but is 0'),
        ({"num_layers": 0}, '"num_layers".*is 0'),
        ({"dropout": 1.0}, r'"dropout".*is 1\.0'),
        ({"source_encoder": {"type": "gru", "input_size": 4, "hidden_size": 3}}, '"source_encoder".*of 4.*have 3'),
        ({"target_encoder": {"type": "gru", "input_size": 4, "hidden_size": 3}}, '"target_encoder".*of 4.*have 7'),
    ],
    ids=str,
)
def test_a_wrong_config_is_named(config, message):
    with pytest.raises(ConfigurationError, match=message):
        build(**config)


def test_a_model_without_an_embedded_source_is_told_what_to_take():
    lazy = Lazy(InferenceNetwork, params=Params({"type": "separate_encoders"}))
    with pytest.raises(ConfigurationError, match=r'"separate_encoders" is for models with.*take "bilinear"'):
        lazy.construct(memory_dim=6, query_dim=5, target_dim=7)
