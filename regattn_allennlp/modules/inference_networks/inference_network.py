from collections.abc import Sequence
from typing import ClassVar

import torch
from allennlp.common import Registrable
from allennlp.common.checks import ConfigurationError
from allennlp.modules.seq2seq_encoders import Seq2SeqEncoder

INPUTS = ("memory", "queries", "targets")


class InferenceNetwork(torch.nn.Module, Registrable):
    """
    q(z | x, q, y): with which position z of a memory x_1..x_n a query is aligned, said by a network that also sees
    the target y (Deng et al. 2018, arXiv 1807.03756, section 3). It is used in training, and by those who ask for its
    alignment of a given target; never to predict.

    Registered as what the latent alignments "variational" and "dirichlet" take as "inference_network".

    # Parameters

    memory_dim, query_dim, target_dim : `int`
        Sizes of the vectors that `forward` gets. The latent alignment gives these three; a config gives what
        subclasses take besides.
    detach : `Sequence[str]`, optional (default = none)
        Which of the network's inputs, "memory", "queries" and "targets", get no gradient from it. Then q does not
        change the layers that made them.

    # Raises

    `ConfigurationError` for a name in `detach` that is no input.
    """

    default_implementation = "bilinear"

    # Whether the memory is what the model's encoder was given, the embedded source, not what it makes of it.
    of_embedded_source: ClassVar[bool] = False

    def __init__(self, memory_dim: int, query_dim: int, target_dim: int, detach: Sequence[str] = ()) -> None:
        super().__init__()
        unknown = sorted(set(detach) - set(INPUTS))
        if isinstance(detach, str) or unknown:
            raise ConfigurationError(
                f'"detach" of the inference network must be a list with some of {list(INPUTS)}, but is {detach!r}'
            )
        self._detached = frozenset(detach)

    def detached(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """The input called `name`, without a gradient if `detach` says so. For subclasses' `forward`."""
        return tensor.detach() if name in self._detached else tensor

    def forward(
        self,
        memory: torch.Tensor,
        memory_mask: torch.Tensor,
        queries: torch.Tensor,
        targets: torch.Tensor,
        target_mask: torch.Tensor,
    ) -> torch.Tensor:
        """
        # Parameters

        memory : `torch.Tensor`
            Shape (batch_size, num_positions, memory_dim). If `of_embedded_source`, of the size of these embeddings.
        memory_mask : `torch.BoolTensor`
            Shape (batch_size, num_positions).
        queries : `torch.Tensor`
            Shape (batch_size, num_queries, query_dim).
        targets : `torch.Tensor`
            Shape (batch_size, num_queries, target_dim): embeddings of each query's true target. The targets of an item
            are a sequence; a network may look at all of it for each query.
        target_mask : `torch.BoolTensor`
            Shape (batch_size, num_queries): where there is a query, with its target.

        # Returns

        Shape (batch_size, num_queries, num_positions): scores, of any size where a mask is false.
        """
        raise NotImplementedError


def check_dropout(dropout: float) -> None:
    """A ConfigurationError if an inference network's `dropout` is not in [0, 1)."""
    if not 0 <= dropout < 1:
        raise ConfigurationError(f'"dropout" of the inference network must be in [0, 1), but is {dropout}')


def check_encoder(encoder: Seq2SeqEncoder, key: str, input_dim: int) -> None:
    """A ConfigurationError if an inference network's encoder is not for embeddings of this size."""
    if encoder.get_input_dim() != input_dim:
        raise ConfigurationError(
            f'"{key}" of the inference network takes vectors of {encoder.get_input_dim()} dimensions, but the '
            f"embeddings have {input_dim}"
        )
