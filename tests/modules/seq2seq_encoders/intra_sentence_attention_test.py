import pytest
import torch
from allennlp.common import Params
from allennlp.common.checks import ConfigurationError
from allennlp.modules.seq2seq_encoders import Seq2SeqEncoder

import regattn_allennlp.modules.seq2seq_encoders  # noqa: F401  (registers what the configs name)
from regattn_allennlp import sparsemax

DIM = 3
MAX_DISTANCE = 2


def build(**attention) -> Seq2SeqEncoder:
    torch.manual_seed(0)
    return Seq2SeqEncoder.from_params(
        Params(
            {
                "type": "intra_sentence_attention",
                "input_dim": DIM,
                "feedforward": {"input_dim": DIM, "num_layers": 1, "hidden_dims": 4, "activations": "tanh"},
                "attention": attention or {"type": "sparsemax"},
                "max_distance": MAX_DISTANCE,
            }
        )
    )


def test_follows_the_papers_formula():
    encoder = build()
    torch.nn.init.normal_(encoder._distance_bias.weight)
    words = torch.randn(1, 6, DIM)
    output = encoder(words, torch.ones(1, 6, dtype=torch.bool))
    assert output.shape == (1, 6, encoder.get_output_dim())
    projected = encoder._feedforward(words)[0]
    for i in range(6):
        scores = []
        for j in range(6):
            distance = max(-MAX_DISTANCE, min(i - j, MAX_DISTANCE))
            scores.append(projected[i] @ projected[j] + encoder._distance_bias.weight[distance + MAX_DISTANCE, 0])
        expected = sum(weight * word for weight, word in zip(sparsemax(torch.stack(scores)), words[0], strict=True))
        torch.testing.assert_close(output[0, i], torch.cat([words[0, i], expected]))


def test_padding_changes_nothing():
    encoder = build()
    words = torch.randn(1, 4, DIM)
    padded = torch.cat([words, torch.full((1, 2, DIM), 100.0)], dim=1)
    mask = torch.tensor([[True] * 4 + [False] * 2])
    torch.testing.assert_close(encoder(padded, mask)[:, :4], encoder(words, mask[:, :4]))


def test_the_distance_bias_is_trained():
    encoder = build()
    encoder(torch.randn(1, 4, DIM), torch.ones(1, 4, dtype=torch.bool)).square().sum().backward()
    assert encoder._distance_bias.weight.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "attention, message",
    [
        ({"type": "dot_product"}, "intra_sentence_attention.*DotProductAttention"),
        ({"type": "softmax", "normalize": False}, "intra_sentence_attention.*normalize"),
    ],
    ids=str,
)
def test_an_attention_that_does_not_fit_is_refused(attention, message):
    with pytest.raises(ConfigurationError, match=message):
        build(**attention)
