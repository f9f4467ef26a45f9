import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.modules.seq2seq_encoders import Seq2SeqEncoder

import regattn_allennlp.modules.seq2seq_encoders  # noqa: F401  (registers what the configs name)
from regattn_allennlp import fusedmax
from regattn_allennlp.modules.alignment_regularizer import observe_alignment

DIM = 6
NUM_HEADS = 2
MAX_DISTANCE = 2
ATTENTIONS = [
    {"type": "softmax", "gamma": 0.5},
    {"type": "sparsemax"},
    {"type": "fusedmax", "lam": 0.1},
    {"type": "oscarmax", "lam": 0.1},
    {"type": "entmax"},
    {"type": "softmax", "similarity": {"type": "bilinear", "matrix_1_dim": 3, "matrix_2_dim": 3}},
]


def build(**config) -> Seq2SeqEncoder:
    torch.manual_seed(0)
    block = {"type": "multi_head_self_attention", "input_dim": DIM, "num_heads": NUM_HEADS, **config}
    encoder = Seq2SeqEncoder.from_params(Params(block))
    for parameter in encoder.parameters():  # norms and biases too, so that none is passed over
        torch.nn.init.normal_(parameter, std=0.7)
    return encoder.eval()


def padded(length: int = 4, num_words: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    words = torch.randn(2, num_words, DIM, generator=torch.Generator().manual_seed(1))
    return words, torch.arange(num_words) < torch.tensor([[num_words], [length]])


def test_with_softmax_it_is_pytorchs_transformer_layer():
    encoder = build(feedforward_hidden_dim=7, num_layers=2)
    words, mask = padded()
    theirs = torch.nn.TransformerEncoderLayer(DIM, NUM_HEADS, 7, dropout=0.0, batch_first=True, norm_first=True)
    expected = words
    for layer in encoder._layers:
        projections = (layer._query_projection, layer._key_projection, layer._value_projection)
        state = {
            "self_attn.in_proj_weight": torch.cat([one.weight for one in projections]),
            "self_attn.in_proj_bias": torch.cat([one.bias for one in projections]),
        }
        for name, module in {
            "self_attn.out_proj": layer._output_projection,
            "norm1": layer._norm,
            "norm2": layer._feedforward[0],
            "linear1": layer._feedforward[1],
            "linear2": layer._feedforward[4],
        }.items():
            state.update({f"{name}.{key}": value for key, value in module.state_dict().items()})
        theirs.load_state_dict(state)
        expected = theirs(expected, src_key_padding_mask=~mask)
    torch.testing.assert_close(encoder(words, mask)[mask], encoder._norm(expected)[mask])


def test_follows_the_formula_with_relative_positions():
    encoder = build(attention={"type": "fusedmax", "lam": 0.1}, max_distance=MAX_DISTANCE)
    (layer,) = encoder._layers
    words, mask = padded()
    output = encoder(words, mask)
    for item, length in enumerate((6, 4)):
        normalized = layer._norm(words[item, :length])
        heads = []
        for head in range(NUM_HEADS):
            part = slice(head * 3, head * 3 + 3)
            q, k, v = (
                projection(normalized)[:, part]
                for projection in (layer._query_projection, layer._key_projection, layer._value_projection)
            )
            rows = []
            for i in range(length):
                scores = []
                for j in range(length):
                    distance = max(-MAX_DISTANCE, min(i - j, MAX_DISTANCE)) + MAX_DISTANCE
                    scores.append(q[i] @ k[j] / 3**0.5 + layer._distance_bias.weight[distance, head])
                rows.append(fusedmax(torch.stack(scores), lam=0.1) @ v)
            heads.append(torch.stack(rows))
        expected = encoder._norm(words[item, :length] + layer._output_projection(torch.cat(heads, dim=-1)))
        torch.testing.assert_close(output[item, :length], expected)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_padding_is_nothing(attention):
    encoder = build(attention=attention, num_layers=2, max_distance=3, feedforward_hidden_dim=5)
    words, mask = padded()
    changed = words.masked_fill(~mask.unsqueeze(-1), 50.0)
    torch.testing.assert_close(encoder(changed, mask)[mask], encoder(words, mask)[mask])
    torch.testing.assert_close(encoder(words, mask)[1:, :4], encoder(words[1:, :4], mask[1:, :4]))


def test_without_relative_positions_there_is_no_order():
    words, mask = padded(length=6)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    unordered, ordered = build(), build(max_distance=MAX_DISTANCE)
    torch.testing.assert_close(unordered(words[:, order], mask), unordered(words, mask)[:, order])
    assert not torch.allclose(ordered(words[:, order], mask), ordered(words, mask)[:, order], atol=0.01)


def test_everything_is_trained():
    encoder = build(max_distance=2, feedforward_hidden_dim=5, attention={"type": "softmax", "learn_gamma": True})
    words, mask = padded()
    (encoder(words, mask) * torch.randn(2, 6, DIM)).sum().backward()
    without = [name for name, one in encoder.named_parameters() if one.grad is None or one.grad.eq(0).all()]
    # A number added to all scores of a row changes no weight.
    assert without == ["_layers.0._key_projection.bias"] or without == []


def test_each_layer_hands_over_its_queries_and_keys_and_stays_as_it_is():
    blocks = {"num_layers": 2, "num_heads": 3, "head_dim": 4}
    plain = build(**blocks)
    encoder = build(**blocks, alignment_regularizer={"type": "mmd", "weight": 0.5})
    encoder.load_state_dict(plain.state_dict(), strict=False)
    words, mask = padded()
    with observe_alignment(encoder) as observation:
        output = encoder(words, mask)
    assert torch.equal(output, plain(words, mask))
    loss, distance = observation.losses()
    expected = 0.0
    inputs = words
    for layer in plain._layers:
        normalized = layer._norm(inputs)
        queries, keys = (
            projection(normalized).view(2, 6, 3, 4).transpose(1, 2)
            for projection in (layer._query_projection, layer._key_projection)
        )
        expected = expected + encoder._layers[0]._alignment_regularizer(queries, keys, mask)
        inputs, _ = layer(inputs, mask)
    torch.testing.assert_close(distance, expected.detach())
    torch.testing.assert_close(loss, 0.5 * expected)


@pytest.mark.parametrize(
    "config, message",
    [
        ({"num_heads": 4}, '"num_heads", 4, does not divide "input_dim", 6'),
        ({"num_heads": 0}, '"num_heads" must be at least 1, but is 0'),
        ({"num_layers": 0}, '"num_layers" must be at least 1'),
        ({"head_dim": 0}, '"head_dim" must be at least 1'),
        ({"max_distance": 0}, '"max_distance" must be at least 1'),
        ({"feedforward_hidden_dim": 0}, '"feedforward_hidden_dim" must be at least 1'),
        ({"attention": {"type": "dot_product"}}, "must be of type regularized or one of"),
        ({"attention": {"type": "softmax", "normalize": False}}, '"normalize": false'),
    ],
)
def test_what_cannot_be_is_named(config, message):
    with pytest.raises(ConfigurationError, match=message):
        build(**config)
