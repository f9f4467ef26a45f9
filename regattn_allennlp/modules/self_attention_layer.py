from typing import Optional

import torch
from allennlp.common import Lazy
from allennlp.common.checks import ConfigurationError
from allennlp.modules.attention import Attention

from regattn_allennlp.modules.alignment_regularizer import AlignmentRegularizer
from regattn_allennlp.modules.attention import SoftmaxAttention, require_regularized_attention
from regattn_allennlp.modules.relative_position_bias import RelativePositionBias
from regattn_allennlp.modules.require_at_least import require_at_least
from regattn_allennlp.modules.self_attention_record import SelfAttentionWeights


class SelfAttentionLayer(torch.nn.Module):
    """
    One layer of multi-head self-attention (Vaswani et al. 2017, arXiv 1706.03762, section 3.2), with any of this
    package's attentions in the place of softmax. With x the layer's input, normalized (Xiong et al. 2020, arXiv
    2002.04745: before the projections), each head has

        q_i, k_i, v_i:    linear in x_i
        f_ij = similarity(q_i / sqrt(head_dim), k_j) + d_{i - j},      a_i = sum_j weights(f_i)_j v_j,

    and what is linear in the heads' a_i is added to the input; then, normalized again, a feedforward is, if there is
    one. The bias d of relative positions is learned, one number for each signed distance and head (as in Raffel et al.
    2020, arXiv 1910.10683, section 2.1); without it, the layer does not know the order of what it is given.

    # Parameters

    input_dim : `int`
        Also the output's.
    num_heads : `int`
    attention : `Lazy[Attention]`, optional (default = "softmax")
        One of this package's. By default it makes scores by the dot product, which, with the queries divided as above,
        is the usual scaled one.
    head_dim : `int`, optional (default = `input_dim / num_heads`)
    feedforward_hidden_dim : `int`, optional (default = no feedforward)
    max_distance : `int`, optional (default = no relative positions)
        All distances from it on share one bias.
    dropout : `float`, optional (default = `0.0`)
        Of what is added to the input, and of the feedforward's hidden layer.
    alignment_regularizer : `Lazy[AlignmentRegularizer]`, optional
        What makes queries and keys alike, with `num_heads` and `head_dim` from here.

    # Raises

    `ConfigurationError`
        If numbers are below 1, `input_dim` is not divided by `num_heads` and no `head_dim` is given, or the attention
        gives no weights.
    """

    def __init__(
        self,
        input_dim: int,
        num_heads: int,
        attention: Optional[Lazy[Attention]] = None,
        head_dim: Optional[int] = None,
        feedforward_hidden_dim: Optional[int] = None,
        max_distance: Optional[int] = None,
        dropout: float = 0.0,
        alignment_regularizer: Optional[Lazy[AlignmentRegularizer]] = None,
    ) -> None:
        super().__init__()
        require_at_least(1, num_heads, "num_heads")
        if head_dim is None:
            if input_dim % num_heads:
                raise ConfigurationError(
                    f'"num_heads", {num_heads}, does not divide "input_dim", {input_dim}: give another number of '
                    'heads, or their "head_dim"'
                )
            head_dim = input_dim // num_heads
        require_at_least(1, head_dim, "head_dim")
        self._num_heads = num_heads
        self._head_dim = head_dim
        self._norm = torch.nn.LayerNorm(input_dim)
        self._query_projection, self._key_projection, self._value_projection = (
            torch.nn.Linear(input_dim, num_heads * head_dim) for _ in range(3)
        )
        self._output_projection = torch.nn.Linear(num_heads * head_dim, input_dim)
        self._attention = require_regularized_attention(
            SoftmaxAttention() if attention is None else attention.construct(), "multi-head self-attention"
        )
        self._weights = SelfAttentionWeights(num_heads)
        self._distance_bias: Optional[RelativePositionBias] = None
        if max_distance is not None:
            require_at_least(1, max_distance, "max_distance")
            self._distance_bias = RelativePositionBias(max_distance, num_heads)
        self._dropout = torch.nn.Dropout(dropout)
        self._feedforward: Optional[torch.nn.Module] = None
        if feedforward_hidden_dim is not None:
            require_at_least(1, feedforward_hidden_dim, "feedforward_hidden_dim")
            self._feedforward = torch.nn.Sequential(
                torch.nn.LayerNorm(input_dim),
                torch.nn.Linear(input_dim, feedforward_hidden_dim),
                torch.nn.ReLU(),
                torch.nn.Dropout(dropout),
                torch.nn.Linear(feedforward_hidden_dim, input_dim),
                torch.nn.Dropout(dropout),
            )
        self._alignment_regularizer: Optional[AlignmentRegularizer] = None
        if alignment_regularizer is not None:
            self._alignment_regularizer = alignment_regularizer.construct(num_heads=num_heads, head_dim=head_dim)

    def forward(
        self, inputs: torch.Tensor, mask: torch.Tensor, pair_mask: Optional[torch.Tensor] = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        # Parameters

        inputs : `torch.Tensor`
            Shape (batch_size, num_positions, input_dim).
        mask : `torch.BoolTensor`
            Shape (batch_size, num_positions): what there is.
        pair_mask : `torch.BoolTensor`, optional (default: everything attends to everything)
            Shape (batch_size, num_positions, num_positions): what each position, a row, may attend to.

        # Returns

        `Tuple[torch.Tensor, torch.Tensor]`
            The output, of the inputs' shape, and the weights, of shape
            (batch_size, num_heads, num_positions, num_positions). What attends to nothing has weights of 0.
        """
        normalized = self._norm(inputs)
        # Shape (all three): (batch_size, num_heads, num_positions, head_dim)
        queries, keys, values = (
            projection(normalized).unflatten(-1, (self._num_heads, self._head_dim)).transpose(1, 2)
            for projection in (self._query_projection, self._key_projection, self._value_projection)
        )
        if self._alignment_regularizer is not None:
            self._alignment_regularizer.observe(queries, keys, mask)
        # Shape: (batch_size, num_heads, num_positions, num_positions)
        scores = self._attention.scores((queries / self._head_dim**0.5).flatten(0, 1), keys.flatten(0, 1)).unflatten(
            0, queries.shape[:2]
        )
        if self._distance_bias is not None:
            scores = scores + self._distance_bias(inputs.size(1))
        attended = mask.unsqueeze(1) if pair_mask is None else mask.unsqueeze(1) & pair_mask
        weights = self._weights(self._attention.weights(scores, attended.unsqueeze(1)), mask)
        # Shape: (batch_size, num_positions, num_heads * head_dim)
        contexts = (weights @ values).transpose(1, 2).flatten(2)
        outputs = inputs + self._dropout(self._output_projection(contexts))
        if self._feedforward is not None:
            outputs = outputs + self._feedforward(outputs)
        return outputs, weights
