import math

import torch
from torch.nn.functional import logsigmoid

from regattn_allennlp.modules.alignment_regularizer.alignment_regularizer import AlignmentRegularizer
from regattn_allennlp.modules.alignment_regularizer.head_network import HeadNetwork
from regattn_allennlp.modules.require_at_least import require_at_least


@AlignmentRegularizer.register("adversarial")
class AdversarialRegularizer(AlignmentRegularizer):
    """
    A discriminator tells queries from keys, and the projections learn to fool it (Goodfellow et al. 2014, arXiv
    1406.2661; for alignment attention, Zhang et al. 2021, arXiv 2110.12567, section 3):

        D = log 2 + 1/2 E_q[log s(f(q))] + 1/2 E_k[log(1 - s(f(k)))],     s the logistic function,

    in nats. For the best f it is the Jensen-Shannon divergence of the two distributions, from 0 to log 2; a
    discriminator that guesses has 0, one that is worse than that less. The model lowers D by its projections and, the
    discriminator's gradient being reversed, raises it by f, in one and the same step.

    Registered as an `AlignmentRegularizer` with name "adversarial".

    # Parameters

    hidden_dim : `int`, optional (default = `32`)
        Of the discriminator f, which has one hidden layer.
    share_networks : `bool`, optional (default = `False`)
        Let the layer's heads share one discriminator; by default each has its own.
    num_heads, head_dim, weight, warmup_batches
        See `AlignmentRegularizer`.
    """

    def __init__(
        self,
        num_heads: int,
        head_dim: int,
        weight: float = 0.1,
        warmup_batches: int = 0,
        hidden_dim: int = 32,
        share_networks: bool = False,
    ) -> None:
        super().__init__(num_heads, head_dim, weight, warmup_batches)
        require_at_least(1, hidden_dim, "hidden_dim")
        self._discriminator = HeadNetwork(
            1 if share_networks else num_heads, head_dim, hidden_dim, output_dim=1, adversary=True
        )
        self.requires_grad_(weight > 0)

    def distances(self, queries: torch.Tensor, keys: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
        # Shape: (batch_size, num_heads, num_tokens)
        log_right = logsigmoid(self._discriminator(queries)) + logsigmoid(-self._discriminator(keys))
        return math.log(2) + (log_right.squeeze(-1) * mass.unsqueeze(1)).sum(dim=-1) / 2
