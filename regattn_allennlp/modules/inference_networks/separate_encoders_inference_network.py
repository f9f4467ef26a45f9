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
from regattn_allennlp.modules.require_at_least import require_at_least


@InferenceNetwork.register("separate_encoders")
class SeparateEncodersInferenceNetwork(InferenceNetwork):
    """
    Reads source and target with two encoders of its own, and scores each pair of their states bilinearly,

        score_ti = target_encoder(y)_t^T W source_encoder(x)_i

    so that it shares nothing with the model but the embeddings of source and target (Deng et al. 2018, arXiv
    1807.03756, section 5). It does not see the decoder's states.

    Registered as an `InferenceNetwork` with name "separate_encoders".

    # Parameters

    source_dim : `int`
        Of the embedded source. The latent alignment gives it, of models that have one.
    hidden_dim : `int`, optional (default = half of `memory_dim`)
        Of each direction of the default encoders: with the default they are as large as the model's own encoder.
    num_layers : `int`, optional (default = `2`)
        Of the default encoders.
    source_encoder, target_encoder : `Seq2SeqEncoder`, optional (default = bidirectional LSTMs)
        Their inputs have `source_dim` and `target_dim` dimensions.
    dropout : `float`, optional (default = `0.0`)
        Of the embeddings, and between the layers of the default encoders.
    memory_dim, query_dim, target_dim, detach
        See `InferenceNetwork`. To `detach` "memory" is to let q's gradient end at the source's embeddings.

    # Raises

    `ConfigurationError` for numbers below 1, a `dropout` not in [0, 1), an encoder for inputs of another size, and in
    models without an embedded source, as of questions about images.
    """

    of_embedded_source = True

    def __init__(
        self,
        memory_dim: int,
        query_dim: int,
        target_dim: int,
        source_dim: Optional[int] = None,
        hidden_dim: Optional[int] = None,
        num_layers: int = 2,
        source_encoder: Optional[Seq2SeqEncoder] = None,
        target_encoder: Optional[Seq2SeqEncoder] = None,
        dropout: float = 0.0,
        detach: Sequence[str] = (),
    ) -> None:
        super().__init__(memory_dim, query_dim, target_dim, detach)
        if source_dim is None:
            raise ConfigurationError(
                'the inference network "separate_encoders" is for models with an embedded source, such as '
                '"attentional_seq2seq"; this model has none: take "bilinear"'
            )
        hidden_dim = max(1, memory_dim // 2) if hidden_dim is None else hidden_dim
        for key, value in ("hidden_dim", hidden_dim), ("num_layers", num_layers):
            require_at_least(1, value, key, " in the inference network")
        check_dropout(dropout)

        def checked(encoder: Optional[Seq2SeqEncoder], key: str, input_dim: int) -> Seq2SeqEncoder:
            if encoder is None:
                between_layers = dropout if num_layers > 1 else 0.0
                return LstmSeq2SeqEncoder(
                    input_dim, hidden_dim, num_layers, dropout=between_layers, bidirectional=True
                )
            check_encoder(encoder, key, input_dim)
            return encoder

        self._source_encoder = checked(source_encoder, "source_encoder", source_dim)
        self._target_encoder = checked(target_encoder, "target_encoder", target_dim)
        self._target_projection = torch.nn.Linear(
            self._target_encoder.get_output_dim(), self._source_encoder.get_output_dim(), bias=False
        )
        self._dropout = torch.nn.Dropout(dropout)

    def forward(
        self,
        memory: torch.Tensor,
        memory_mask: torch.Tensor,
        queries: torch.Tensor,
        targets: torch.Tensor,
        target_mask: torch.Tensor,
    ) -> torch.Tensor:
        memory, targets = (
            self._dropout(self.detached(name, tensor)) for name, tensor in (("memory", memory), ("targets", targets))
        )
        # Shape: (batch_size, num_positions, encoded_dim)
        source = self._source_encoder(memory, memory_mask)
        # Shape: (batch_size, num_queries, encoded_dim)
        target = self._target_projection(self._target_encoder(targets, target_mask))
        return torch.bmm(target, source.transpose(1, 2))
