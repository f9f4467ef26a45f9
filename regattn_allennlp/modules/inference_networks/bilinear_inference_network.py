from collections.abc import Sequence
from typing import Optional

import torch
from allennlp.common.checks import ConfigurationError
from allennlp.modules.seq2seq_encoders import LstmSeq2SeqEncoder, Seq2SeqEncoder

from regattn_allennlp.modules.inference_networks.inference_network import (
    InferenceNetwork,
    check_dropout,
    check_encoder,
)


@InferenceNetwork.register("bilinear")
class BilinearInferenceNetwork(InferenceNetwork):
    """
    Scores every memory row bilinearly with what is known of the query,

        score_i = (W_m x_i + b_m)^T tanh(W [h; q] + b) / sqrt(hidden_dim),

    where h is the query's target, encoded together with all other targets of its item: in a translation the word to
    be aligned, with the words before and after it. What it reads is the model's own: x_i is the encoder's output, q
    the decoder's state. Without `detach` its gradient reaches both, and the target's embeddings.

    Registered as an `InferenceNetwork` with name "bilinear".

    # Parameters

    hidden_dim : `int`, optional (default = `query_dim`)
        The size of what is compared, and of each direction of the default `target_encoder`.
    target_encoder : `Seq2SeqEncoder`, optional (default = a bidirectional LSTM of one layer)
        Makes h of the targets. Its input has `target_dim` dimensions.
    encode_targets : `bool`, optional (default = `True`)
        If false, h is the target's own embedding: enough where an item has one target, such as an answer.
    dropout : `float`, optional (default = `0.0`)
        Of h and the query.
    memory_dim, query_dim, target_dim, detach
        See `InferenceNetwork`.

    # Raises

    `ConfigurationError` for a `hidden_dim` below 1, a `dropout` not in [0, 1), a `target_encoder` for inputs of
    another size, or one with `"encode_targets": false`.
    """

    def __init__(
        self,
        memory_dim: int,
        query_dim: int,
        target_dim: int,
        hidden_dim: Optional[int] = None,
        target_encoder: Optional[Seq2SeqEncoder] = None,
        encode_targets: bool = True,
        dropout: float = 0.0,
        detach: Sequence[str] = (),
    ) -> None:
        super().__init__(memory_dim, query_dim, target_dim, detach)
        hidden_dim = query_dim if hidden_dim is None else hidden_dim
        if hidden_dim < 1:
            raise ConfigurationError(f'"hidden_dim" of the inference network must be at least 1, but is {hidden_dim}')
        check_dropout(dropout)
        if target_encoder is not None:
            if not encode_targets:
                raise ConfigurationError(
                    '"target_encoder" of the inference network is not used: "encode_targets" is false'
                )
            check_encoder(target_encoder, "target_encoder", target_dim)
        elif encode_targets:
            target_encoder = LstmSeq2SeqEncoder(target_dim, hidden_dim, bidirectional=True)
        self._target_encoder = target_encoder
        encoded_dim = target_dim if target_encoder is None else target_encoder.get_output_dim()
        self._query_projection = torch.nn.Linear(encoded_dim + query_dim, hidden_dim)
        # Its bias adds the same to the scores of all rows: nothing to a softmax, but a Dirichlet's concentration.
        self._memory_projection = torch.nn.Linear(memory_dim, hidden_dim)
        self._dropout = torch.nn.Dropout(dropout)

    def forward(
        self,
        memory: torch.Tensor,
        memory_mask: torch.Tensor,
        queries: torch.Tensor,
        targets: torch.Tensor,
        target_mask: torch.Tensor,
    ) -> torch.Tensor:
        memory, queries, targets = (
            self.detached(name, tensor)
            for name, tensor in (("memory", memory), ("queries", queries), ("targets", targets))
        )
        if self._target_encoder is not None:
            targets = self._target_encoder(targets, target_mask)
        # Shape: (batch_size, num_queries, hidden_dim)
        projected = torch.tanh(self._query_projection(self._dropout(torch.cat([targets, queries], dim=-1))))
        # Shape: (batch_size, num_positions, hidden_dim)
        keys = self._memory_projection(memory)
        return torch.bmm(projected, keys.transpose(1, 2)) * keys.size(-1) ** -0.5
