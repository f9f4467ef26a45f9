"""What is recorded, against the formulas in numpy, position by position."""

import threading

import numpy as np
import pytest
import torch
from allennlp.common import Params
from allennlp.modules.seq2seq_encoders import Seq2SeqEncoder

import regattn_allennlp.modules.seq2seq_encoders  # noqa: F401  (registers what the configs name)
from regattn_allennlp.modules.graph_encoders import GraphAttention
from regattn_allennlp.modules.self_attention_record import recording_self_attention, self_attention_layers

DIM, NUM_HEADS, MAX_DISTANCE, LENGTHS = 6, 2, 2, (5, 3)
HEAD_DIM = DIM // NUM_HEADS
MASK = torch.arange(5) < torch.tensor(LENGTHS).unsqueeze(1)
INPUTS = torch.randn(2, 5, DIM, generator=torch.Generator().manual_seed(1))


def prepared(module: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.7, generator=generator)
    return module.eval()


def encoder(**config) -> Seq2SeqEncoder:
    return prepared(Seq2SeqEncoder.from_params(Params({"input_dim": DIM, **config})))


def softmax(scores: list[float]) -> np.ndarray:
    powers = np.exp(np.array(scores) - max(scores))
    return powers / powers.sum()


def linear(layer: torch.nn.Linear, vector: np.ndarray) -> np.ndarray:
    return layer.weight.detach().numpy() @ vector + layer.bias.detach().numpy()


def normalized(norm: torch.nn.LayerNorm, vector: np.ndarray) -> np.ndarray:
    centered = vector - vector.mean()
    scaled = centered / np.sqrt((centered**2).mean() + norm.eps)
    return scaled * norm.weight.detach().numpy() + norm.bias.detach().numpy()


def bias(distance_bias: torch.nn.Embedding | None, i: int, j: int, head: int) -> float:
    if distance_bias is None:
        return 0.0
    return distance_bias.weight[max(-MAX_DISTANCE, min(i - j, MAX_DISTANCE)) + MAX_DISTANCE, head].item()


def expected_of_layer(layer, inputs: np.ndarray, head: int, neighbors: list[list[int]]) -> np.ndarray:
    """softmax over j of q_i k_j / sqrt(head_dim) + d_{i-j}, for one sequence and head."""
    of_head = slice(head * HEAD_DIM, (head + 1) * HEAD_DIM)
    words = [normalized(layer._norm, vector) for vector in inputs]
    queries = [linear(layer._query_projection, word)[of_head] for word in words]
    keys = [linear(layer._key_projection, word)[of_head] for word in words]
    weights = np.zeros((len(words), len(words)))
    for i, attended in enumerate(neighbors):
        if attended:
            weights[i, attended] = softmax(
                [queries[i] @ keys[j] / HEAD_DIM**0.5 + bias(layer._distance_bias, i, j, head) for j in attended]
            )
    return weights


def assert_recorded(layers, expected: list, *arguments: torch.Tensor, model: torch.nn.Module) -> None:
    """`expected` makes the weights of each sequence and head."""
    without = model(*arguments)
    with recording_self_attention(model) as layers_in_order:
        output = model(*arguments)
    outputs, others = ((one if isinstance(one, tuple) else (one,)) for one in (output, without))
    assert all(torch.equal(one, other) for one, other in zip(outputs, others, strict=True))
    assert not any(module._forward_hooks for module in model.modules())
    assert {layer.name: layer.weights.size(1) for layer in layers_in_order} == self_attention_layers(model) == layers
    for layer, weights_of in zip(layers_in_order, expected, strict=True):
        assert torch.equal(layer.mask, MASK) and not layer.weights.requires_grad
        for item, length in enumerate(LENGTHS):
            assert (layer.weights[item, :, :length, length:] == 0).all()
            for head in range(layer.weights.size(1)):
                own = layer.weights[item, head, :length, :length].numpy()
                np.testing.assert_allclose(own, weights_of(item, length, head), atol=1e-5)


@pytest.mark.parametrize("more", [{}, {"max_distance": MAX_DISTANCE}])
def test_multi_head_self_attention(more):
    model = encoder(type="multi_head_self_attention", num_heads=NUM_HEADS, num_layers=2, **more)
    second_inputs = model._layers[0](INPUTS, MASK)[0].detach()

    def weights_of(number: int, inputs: torch.Tensor):
        return lambda item, length, head: expected_of_layer(
            model._layers[number], inputs[item, :length].numpy(), head, [list(range(length))] * length
        )

    expected = [weights_of(0, INPUTS), weights_of(1, second_inputs)]
    assert_recorded({"_layers.0": NUM_HEADS, "_layers.1": NUM_HEADS}, expected, INPUTS, MASK, model=model)


def test_intra_sentence_attention():
    model = encoder(
        type="intra_sentence_attention", attention={"type": "softmax"}, max_distance=MAX_DISTANCE,
        feedforward={"input_dim": DIM, "num_layers": 1, "hidden_dims": 4, "activations": "linear"},
    )  # fmt: skip
    (layer,) = model._feedforward._linear_layers

    def weights_of(item: int, length: int, head: int) -> list[np.ndarray]:
        words = [linear(layer, vector) for vector in INPUTS[item, :length].numpy()]
        return [
            softmax([words[i] @ words[j] + bias(model._distance_bias, i, j, 0) for j in range(length)])
            for i in range(length)
        ]

    assert_recorded({"": 1}, [weights_of], INPUTS, MASK, model=model)


def test_graph_attention():
    model = prepared(GraphAttention(DIM, NUM_HEADS, self_loops=False))
    edges = {(0, 1), (0, 4), (1, 2), (2, 0), (3, 3), (4, 1)}
    adjacency = torch.tensor([[[(i, j) in edges for j in range(5)] for i in range(5)]] * 2)

    def weights_of(item: int, length: int, head: int) -> np.ndarray:
        neighbors = [[j for j in range(length) if (i, j) in edges] for i in range(length)]
        return expected_of_layer(model._self_attention._layers[0], INPUTS[item, :length].numpy(), head, neighbors)

    name = "_self_attention._layers.0"
    assert_recorded({name: NUM_HEADS}, [weights_of], INPUTS, adjacency, MASK, model=model)


def test_what_other_threads_do_and_what_fails_is_not_recorded():
    model = encoder(type="multi_head_self_attention", num_heads=NUM_HEADS)
    with recording_self_attention(model) as record:
        other = threading.Thread(target=model, args=(INPUTS, MASK))
        other.start()
        other.join()
    assert record == []
    with pytest.raises(ZeroDivisionError), recording_self_attention(model) as record:
        model(INPUTS, MASK)
        raise ZeroDivisionError
    assert record == [] and not any(module._forward_hooks for module in model.modules())
