import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError

from regattn_allennlp import sparsemax
from regattn_allennlp.modules.alignment_regularizer import observe_alignment
from regattn_allennlp.modules.graph_encoders import GraphAttention, GraphEncoder

DIM = 4
# Node 3 has no edge; an edge leads from 2 to itself.
EDGES = [(0, 1), (1, 0), (1, 2), (2, 1), (0, 4), (4, 0), (2, 2)]
NUM_NODES = 5
ATTENTIONS = [{"type": "softmax"}, {"type": "sparsemax"}, {"type": "oscarmax", "lam": 0.2}]


def build(**changes) -> GraphAttention:
    torch.manual_seed(0)
    encoder = GraphEncoder.from_params(Params({"input_dim": DIM, "num_heads": 2, **changes}))
    assert isinstance(encoder, GraphAttention)
    return encoder.eval()


def graph() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    adjacency = torch.zeros(1, NUM_NODES, NUM_NODES, dtype=torch.bool)
    for row, column in EDGES:
        adjacency[0, row, column] = True
    return 3 * torch.randn(1, NUM_NODES, DIM), adjacency, torch.ones(1, NUM_NODES, dtype=torch.bool)


@pytest.mark.parametrize("self_loops", [True, False])
@pytest.mark.parametrize("neighborhood", ["edges", "all", "none"])
@pytest.mark.parametrize("name, operator", [("softmax", lambda scores: scores.softmax(0)), ("sparsemax", sparsemax)])
def test_one_head_follows_the_equations(name, operator, neighborhood, self_loops):
    """Node by node, with a list of the neighbors in the place of the mask."""
    encoder = build(
        num_heads=1, head_dim=3, attention={"type": name}, neighborhood=neighborhood, self_loops=self_loops
    )
    (layer,) = encoder._self_attention._layers
    nodes, adjacency, mask = graph()
    encoded, weights = encoder(nodes, adjacency, mask)
    normalized = torch.nn.functional.layer_norm(nodes[0], (DIM,))
    expected_weights = torch.zeros(NUM_NODES, NUM_NODES)
    for i in range(NUM_NODES):
        neighbors = {"edges": {j for k, j in EDGES if k == i}, "all": set(range(NUM_NODES)) - {i}, "none": set()}
        attended = sorted(neighbors[neighborhood] | ({i} if self_loops else set()))
        context = torch.zeros(3)
        if attended:
            query = layer._query_projection(normalized[i])
            scores = torch.stack([query @ layer._key_projection(normalized[j]) for j in attended]) / 3**0.5
            for j, weight in zip(attended, operator(scores), strict=True):
                expected_weights[i, j] = weight
                context = context + weight * layer._value_projection(normalized[j])
        expected = torch.nn.functional.layer_norm(nodes[0, i] + layer._output_projection(context), (DIM,))
        torch.testing.assert_close(encoded[0, i], expected)
    torch.testing.assert_close(weights[0, 0], expected_weights)
    assert torch.equal(weights[0, 0] > 0, expected_weights > 0)


def test_what_attends_to_nothing_is_no_nan_and_keeps_its_input():
    encoder = build(self_loops=False, num_layers=2)
    nodes, adjacency, mask = graph()
    nodes.requires_grad_()
    encoded, weights = encoder(nodes, adjacency, mask)
    assert encoded.isfinite().all()
    assert weights[0, :, 3].eq(0).all() and weights[0, :, [0, 1, 2, 4]].sum(-1).allclose(torch.ones(()))
    biases = sum(layer._output_projection.bias for layer in encoder._self_attention._layers)
    torch.testing.assert_close(encoded[0, 3], torch.nn.functional.layer_norm(nodes[0, 3] + biases, (DIM,)))
    encoded.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in encoder.parameters())


@pytest.mark.parametrize("num_layers", [1, 2])
def test_a_layer_sees_as_far_as_an_edge(num_layers):
    """4 is one edge from 0, two from 1, and three from 2."""
    encoder = build(num_layers=num_layers)
    nodes, adjacency, mask = graph()
    nodes.requires_grad_()
    encoded, _ = encoder(nodes, adjacency, mask)
    distances = {4: 0, 0: 1, 1: 2, 2: 3, 3: 9}
    # Not the sum: that of what was normalized is 0, whatever the nodes.
    (gradient,) = torch.autograd.grad(encoded[0, 4] @ torch.arange(DIM).float(), nodes)
    for node, distance in distances.items():
        assert gradient[0, node].ne(0).any() == (distance <= num_layers), node


@pytest.mark.parametrize("attention", ATTENTIONS, ids=str)
def test_numbering_the_nodes_anew_permutes_the_output(attention):
    encoder = build(attention=attention, num_layers=2, feedforward_hidden_dim=6)
    nodes, adjacency, mask = graph()
    order = torch.tensor([2, 4, 0, 1, 3])
    encoded, weights = encoder(nodes, adjacency, mask)
    permuted, permuted_weights = encoder(nodes[:, order], adjacency[:, order][:, :, order], mask)
    torch.testing.assert_close(permuted, encoded[:, order])
    torch.testing.assert_close(permuted_weights, weights[:, :, order][:, :, :, order])
    assert not permuted.allclose(encoded)


@pytest.mark.parametrize("neighborhood", ["edges", "all", "none"])
def test_padding_changes_nothing(neighborhood):
    encoder = build(num_layers=2, neighborhood=neighborhood)
    nodes, adjacency, mask = graph()
    encoded, weights = encoder(nodes, adjacency, mask)
    padded_nodes = torch.cat([nodes, torch.full((1, 2, DIM), 100.0)], dim=1)
    # Edges of padding are none, either.
    padded_adjacency = torch.ones(1, NUM_NODES + 2, NUM_NODES + 2, dtype=torch.bool)
    padded_adjacency[:, :NUM_NODES, :NUM_NODES] = adjacency
    padded_mask = torch.arange(NUM_NODES + 2).unsqueeze(0) < NUM_NODES
    padded, padded_weights = encoder(padded_nodes, padded_adjacency, padded_mask)
    torch.testing.assert_close(padded[:, :NUM_NODES], encoded)
    torch.testing.assert_close(padded_weights[:, :, :NUM_NODES, :NUM_NODES], weights)
    assert padded_weights[:, :, NUM_NODES:].eq(0).all() and padded_weights[:, :, :, NUM_NODES:].eq(0).all()


@pytest.mark.parametrize("attention", ATTENTIONS, ids=str)
def test_gradients(attention):
    encoder = build(attention=attention, feedforward_hidden_dim=3).double()
    nodes, adjacency, mask = graph()
    assert torch.autograd.gradcheck(
        lambda inputs: encoder(inputs, adjacency, mask)[0], nodes.double().requires_grad_()
    )
    encoder(nodes.double(), adjacency, mask)[0].square().sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_all_nodes_of_a_graph_are_regularized_whatever_the_edges():
    encoder = build(num_layers=2, alignment_regularizer={"type": "mmd", "weight": 0.5})
    nodes, adjacency, mask = graph()
    mask[0, 4] = False
    with observe_alignment(encoder) as observation:
        encoder(nodes, adjacency, mask)
    loss, distance = observation.losses()
    expected = 0
    inputs = nodes
    for layer in encoder._self_attention._layers:
        normalized = layer._norm(inputs)
        queries, keys = (
            projection(normalized)[:, :4].unflatten(-1, (2, 2)).transpose(1, 2)
            for projection in (layer._query_projection, layer._key_projection)
        )
        expected = expected + layer._alignment_regularizer(queries, keys)
        inputs, _ = layer(inputs, mask, encoder.attended(adjacency, mask))
    torch.testing.assert_close(distance, expected.detach())
    torch.testing.assert_close(loss, 0.5 * expected)
    loss.backward()
    for layer in encoder._self_attention._layers:
        assert layer._query_projection.weight.grad.ne(0).any() and layer._key_projection.weight.grad.ne(0).any()
    assert encoder._self_attention._layers[1]._value_projection.weight.grad is None


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"neighborhood": "near"}, "\"neighborhood\" must be one of edges, all, none, but is 'near'"),
        ({"num_heads": 3}, '3, does not divide "input_dim", 4'),
        ({"num_layers": 0}, '"num_layers" must be at least 1'),
        ({"attention": {"type": "dot_product"}}, "must be of type regularized"),
    ],
    ids=str,
)
def test_what_cannot_be_is_named(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        build(**changes)
