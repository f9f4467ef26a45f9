import torch
from allennlp.modules import FeedForward
from allennlp.modules.attention import Attention
from allennlp.modules.seq2seq_encoders import Seq2SeqEncoder

from regattn_allennlp.modules.attention import require_regularized_attention
from regattn_allennlp.modules.relative_position_bias import RelativePositionBias
from regattn_allennlp.modules.self_attention_record import SelfAttentionWeights


@Seq2SeqEncoder.register("intra_sentence_attention")
class IntraSentenceAttention(Seq2SeqEncoder):
    """
    Intra-sentence attention (Parikh et al. 2016, arXiv 1606.01933, section 3.4): each word attends to the words of
    its own sentence,

        f_ij = F(a_i)^T F(a_j) + d_{i - j},     a'_i = sum_j weights(f_i)_j a_j,

    and becomes [a_i; a'_i]. The bias d is learned, one number for each signed distance; all distances from
    `max_distance` on share one.

    Registered as a `Seq2SeqEncoder` with name "intra_sentence_attention". Input of shape
    (batch_size, num_words, input_dim) gives (batch_size, num_words, 2 * input_dim).

    # Parameters

    input_dim : `int`
    feedforward : `FeedForward`
        F, whose input dimension is `input_dim`.
    attention : `Attention`
        One of this package's. Makes scores of F's outputs, and weights of the scores with the bias.
    max_distance : `int`, optional (default = `10`)
    """

    def __init__(self, input_dim: int, feedforward: FeedForward, attention: Attention, max_distance: int = 10) -> None:
        super().__init__()
        self._input_dim = input_dim
        self._feedforward = feedforward
        self._attention = require_regularized_attention(attention, "intra_sentence_attention")
        self._weights = SelfAttentionWeights(num_heads=1)
        self._distance_bias = RelativePositionBias(max_distance)

    def get_input_dim(self) -> int:
        return self._input_dim

    def get_output_dim(self) -> int:
        return 2 * self._input_dim

    def is_bidirectional(self) -> bool:
        return False

    def forward(self, inputs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        # Shape: (batch_size, num_words, hidden_dim)
        projected = self._feedforward(inputs)
        # Shape: (batch_size, num_words, num_words)
        scores = self._attention.scores(projected, projected) + self._distance_bias(inputs.size(1))
        weights = self._attention.weights(scores, mask.unsqueeze(1) & mask.unsqueeze(2))
        self._weights(weights.unsqueeze(1), mask)
        return torch.cat([inputs, weights.bmm(inputs)], dim=-1)
