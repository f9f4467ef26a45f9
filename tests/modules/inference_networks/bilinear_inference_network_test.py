import pytest
import torch
from allennlp.common import Lazy, Params
from allennlp.common.checks import ConfigurationError

from regattn_allennlp.modules.inference_networks import InferenceNetwork

MEMORY_DIM, QUERY_DIM, TARGET_DIM = 5, 6, 7


def build(**config) -> InferenceNetwork:
    torch.manual_seed(0)
    lazy = Lazy(InferenceNetwork, params=Params(config))
    return lazy.construct(memory_dim=MEMORY_DIM, query_dim=QUERY_DIM, target_dim=TARGET_DIM)


def inputs() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "memory": torch.randn(2, 4, MEMORY_DIM, generator=generator),
        "memory_mask": torch.tensor([[True] * 4, [True] * 2 + [False] * 2]),
        "queries": torch.randn(2, 5, QUERY_DIM, generator=generator),
        "targets": torch.randn(2, 5, TARGET_DIM, generator=generator),
        "target_mask": torch.tensor([[True] * 5, [True] * 3 + [False] * 2]),
    }


def test_scores_of_a_word_depend_on_the_words_after_it():
    network = build()
    tensors = inputs()
    scores = network(**tensors)
    assert scores.shape == (2, 5, 4)
    tensors["targets"][0, 4] += 1.0
    changed = (network(**tensors) - scores).abs().amax(-1) > 1e-6
    assert changed[0].all() and not changed[1].any()


def test_without_encoding_a_word_is_scored_by_itself():
    network = build(encode_targets=False)
    tensors = inputs()
    scores = network(**tensors)
    tensors["targets"][0, 4] += 1.0
    changed = (network(**tensors) - scores).abs().amax(-1) > 1e-6
    assert changed.tolist() == [[False] * 4 + [True], [False] * 5]


@pytest.mark.parametrize("name", ["queries", "memory"])
def test_scores_depend_on_queries_and_memory(name):
    network = build()
    tensors = inputs()
    scores = network(**tensors)
    tensors[name][0, 1] += 1.0
    difference = (network(**tensors) - scores).abs() > 1e-6
    expected = torch.zeros_like(difference)
    if name == "queries":
        expected[0, 1] = True
    else:
        expected[0, :, 1] = True
    assert torch.equal(difference, expected)


@pytest.mark.parametrize("encode_targets", [True, False])
def test_padding_does_not_matter(encode_targets):
    network = build(encode_targets=encode_targets)
    tensors = inputs()
    scores = network(**tensors)[1, :3, :2]
    tensors["memory"][1, 2:] = 9.0
    tensors["targets"][1, 3:] = 9.0
    tensors["queries"][1, 3:] = 9.0
    torch.testing.assert_close(network(**tensors)[1, :3, :2], scores)
    alone = {
        name: tensor[1:, : 3 if name in ("queries", "targets", "target_mask") else 2]
        for name, tensor in tensors.items()
    }
    torch.testing.assert_close(network(**alone)[0], scores)


def test_all_parameters_learn():
    network = build(hidden_dim=3)
    network(**inputs()).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters())


def test_any_encoder_of_the_targets_size_will_do():
    network = build(target_encoder={"type": "gru", "input_size": TARGET_DIM, "hidden_size": 3}, dropout=0.1)
    assert network(**inputs()).shape == (2, 5, 4)


@pytest.mark.parametrize(
    "config, message",
    [
        ({"hidden_dim": 0}, '"hidden_dim".*at least 1, but is 0'),
        ({"dropout": 1.0}, '"dropout".*is 1.0'),
        ({"target_encoder": {"type": "gru", "input_size": 4, "hidden_size": 3}}, '"target_encoder".*of 4.*have 7'),
        (
            {"target_encoder": {"type": "gru", "input_size": 7, "hidden_size": 3}, "encode_targets": False},
            '"target_encoder".*not used',
        ),
        ({"detach": ["memory", "source"]}, "\"detach\".*\\['memory', 'queries', 'targets'\\], but is"),
        ({"hidden_size": 3}, "Extra parameters.*hidden_size"),
        ({"type": "linear"}, "linear.*bilinear"),
    ],
    ids=str,
)
def test_a_wrong_config_is_named(config, message):
    with pytest.raises(ConfigurationError, match=message):
        build(**config)


@pytest.mark.parametrize("detach", [[], ["memory"], ["queries", "targets"]], ids=str)
def test_what_is_detached_gets_no_gradient(detach):
    tensors = inputs()
    for name in ("memory", "queries", "targets"):
        tensors[name].requires_grad_()
    build(detach=detach)(**tensors).square().sum().backward()
    assert {name for name in ("memory", "queries", "targets") if tensors[name].grad is None} == set(detach)
