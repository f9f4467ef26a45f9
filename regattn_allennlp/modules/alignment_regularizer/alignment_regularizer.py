from typing import Optional

import torch
from allennlp.common import Registrable
from allennlp.common.checks import ConfigurationError

from regattn_allennlp.modules.require_at_least import require_at_least


class AlignmentRegularizer(torch.nn.Module, Registrable):
    """
    Alignment attention (Zhang et al. 2021, arXiv 2110.12567): what a layer of self-attention adds to the loss so that
    in each head the queries and the keys of a sequence become alike as distributions,

        weight * sum over heads of D({q_i}, {k_j}),

    with D a distance between the two sets of a sequence's tokens, averaged over the sequences. The layer's output
    stays what it is.

    A layer that carries a regularizer hands its queries and keys to `observe`; whoever trains the model asks for the
    loss by `observe_alignment`, as this package's models do. Unasked, nothing is computed.

    # Parameters

    num_heads, head_dim : `int`
        The layer's. It constructs the regularizer with these; a config gives the others.
    weight : `float`, optional (default = `0.1`)
        0 or more. With 0 the distance is measured, and the model trained as without a regularizer, bit for bit.
    warmup_batches : `int`, optional (default = `0`)
        Over how many of the first batches of training the weight rises to this, linearly.

    # Raises

    `ConfigurationError` for a weight or a number below 0.
    """

    default_implementation = "mmd"

    def __init__(self, num_heads: int, head_dim: int, weight: float = 0.1, warmup_batches: int = 0) -> None:
        super().__init__()
        if not 0 <= weight < float("inf"):
            raise ConfigurationError(f'"weight" of an alignment regularizer must be 0 or more, but is {weight}')
        require_at_least(0, warmup_batches, "warmup_batches")
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.weight = weight
        self._warmup_batches = warmup_batches
        self._observed: Optional[list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]] = None
        # Kept with the weights: a training that was interrupted goes on with its warm-up.
        self.register_buffer("_num_batches", torch.zeros((), dtype=torch.long))
        self._num_batches: torch.Tensor

    def present_weight(self) -> torch.Tensor:
        """What the distance is multiplied by, after as many batches of training as there were. A scalar."""
        if not self._warmup_batches:
            return torch.full((), self.weight, device=self._num_batches.device)
        return self.weight * (self._num_batches / self._warmup_batches).clamp(max=1)

    def forward(self, queries: torch.Tensor, keys: torch.Tensor, mask: Optional[torch.Tensor] = None) -> torch.Tensor:
        """
        The distance without its weight.

        # Parameters

        queries, keys : `torch.Tensor`
            Shape (batch_size, num_heads, num_tokens, head_dim), of any floating-point dtype; computed in float32 at
            least.
        mask : `torch.BoolTensor`, optional
            Shape (batch_size, num_tokens): the tokens that there are, by default all. The others change nothing, and
            so do sequences without any token.

        # Returns

        `torch.Tensor`
            A scalar: D, summed over the heads and averaged over the sequences.
        """
        if mask is None:
            mask = queries.new_ones(queries.size(0), queries.size(2), dtype=torch.bool)
        dtype = torch.promote_types(queries.dtype, torch.float32)
        # Shape: (batch_size, 1, num_tokens, 1)
        padding = ~mask[:, None, :, None]
        with torch.autocast(queries.device.type, enabled=False):
            # Shape: (batch_size, num_heads)
            distances = self.distances(
                queries.to(dtype).masked_fill(padding, 0), keys.to(dtype).masked_fill(padding, 0), _mass(mask, dtype)
            )
            has_tokens = mask.any(dim=1)
            return (distances.sum(dim=1) * has_tokens).sum() / has_tokens.sum().clamp(min=1)

    def distances(self, queries: torch.Tensor, keys: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
        """
        D of each sequence and head.

        # Parameters

        queries, keys : `torch.Tensor`
            Shape (batch_size, num_heads, num_tokens, head_dim); 0 at padding.
        mass : `torch.Tensor`
            Shape (batch_size, num_tokens): 1 / n for each of a sequence's n tokens, 0 for padding; of a sequence
            without tokens, whose distance does not count, anything that sums to 1.

        # Returns

        `torch.Tensor`
            Shape (batch_size, num_heads).
        """
        raise NotImplementedError

    def observe(self, queries: torch.Tensor, keys: torch.Tensor, mask: torch.Tensor) -> None:
        """Called by the layer, with the arguments of `forward`; as often as the layer is applied."""
        if self._observed is not None:
            self._observed.append((queries, keys, mask))

    @property
    def observing(self) -> bool:
        """Whether `observe` takes note: where it does not, a layer may spare the work."""
        return self._observed is not None

    def start_observation(self) -> None:
        """From now on until `end_observation`, `observe` takes note. In training, a batch begins."""
        self._observed = []
        if self.training:
            self._num_batches += 1

    def end_observation(self) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """What was observed."""
        observed, self._observed = self._observed, None
        return observed or []


def _mass(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    counted = mask | ~mask.any(dim=1, keepdim=True)
    return counted.to(dtype) / counted.sum(dim=1, keepdim=True)
