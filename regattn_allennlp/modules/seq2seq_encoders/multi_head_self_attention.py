from typing import Optional

import torch
from allennlp.common import Lazy
from allennlp.modules.attention import Attention
from allennlp.modules.seq2seq_encoders import Seq2SeqEncoder

from regattn_allennlp.modules.alignment_regularizer import AlignmentRegularizer
from regattn_allennlp.modules.require_at_least import require_at_least
from regattn_allennlp.modules.self_attention_layer import SelfAttentionLayer


@Seq2SeqEncoder.register("multi_head_self_attention", exist_ok=True)  # allennlp-models has one of that name too
class MultiHeadSelfAttention(Seq2SeqEncoder):
    """
    Layers of multi-head self-attention (Vaswani et al. 2017, arXiv 1706.03762) with any of this package's attentions
    for its weights: sparse, fused, grouped. Each layer is a `SelfAttentionLayer`; the last one's output is normalized
    once more. For alignment attention (Zhang et al. 2021, arXiv 2110.12567) each carries an `AlignmentRegularizer`.

    Registered as a `Seq2SeqEncoder` with name "multi_head_self_attention". Input of shape
    (batch_size, num_positions, input_dim) gives the same shape.

    # Parameters

    input_dim : `int`
    num_heads : `int`
    num_layers : `int`, optional (default = `1`)
    attention : `Attention`, optional (default = "softmax")
        Each layer has one of its own, and so what it learns is of its own.
    head_dim, feedforward_hidden_dim, max_distance, dropout
        Of each layer: see `SelfAttentionLayer`. Where the order of words matters, give `max_distance`.
    alignment_regularizer : `AlignmentRegularizer`, optional
        Each layer has one of its own; to compare regularizers, change this block and nothing else.

    # Raises

    `ConfigurationError`: see `SelfAttentionLayer`.
    """

    def __init__(
        self,
        input_dim: int,
        num_heads: int,
        num_layers: int = 1,
        attention: Optional[Lazy[Attention]] = None,
        head_dim: Optional[int] = None,
        feedforward_hidden_dim: Optional[int] = None,
        max_distance: Optional[int] = None,
        dropout: float = 0.0,
        alignment_regularizer: Optional[Lazy[AlignmentRegularizer]] = None,
    ) -> None:
        super().__init__()
        require_at_least(1, num_layers, "num_layers")
        self._input_dim = input_dim
        self._layers = torch.nn.ModuleList(
            SelfAttentionLayer(
                input_dim,
                num_heads,
                attention,
                head_dim,
                feedforward_hidden_dim,
                max_distance,
                dropout,
                alignment_regularizer,
            )
            for _ in range(num_layers)
        )
        self._norm = torch.nn.LayerNorm(input_dim)

    def get_input_dim(self) -> int:
        return self._input_dim

    def get_output_dim(self) -> int:
        return self._input_dim

    def is_bidirectional(self) -> bool:
        return False

    def forward(self, inputs: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.attend(inputs, mask)[0]

    def attend(
        self, inputs: torch.Tensor, mask: torch.Tensor, pair_mask: Optional[torch.Tensor] = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The output, and the weights of the last layer: see `SelfAttentionLayer.forward`."""
        for layer in self._layers:
            inputs, weights = layer(inputs, mask, pair_mask)
        return self._norm(inputs), weights
