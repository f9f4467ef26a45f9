import torch
from torch.nn.functional import normalize

from regattn_allennlp.modules.alignment_regularizer.alignment_regularizer import AlignmentRegularizer
from regattn_allennlp.modules.alignment_regularizer.head_network import HeadNetwork
from regattn_allennlp.modules.alignment_regularizer.squared_distances import relative_squared_distances
from regattn_allennlp.modules.require_at_least import require_at_least
from regattn_allennlp.operators import softmax


@AlignmentRegularizer.register("conditional_transport")
class ConditionalTransportRegularizer(AlignmentRegularizer):
    """
    Conditional transport in both directions (Zheng & Zhou 2021, arXiv 2012.14100; in alignment attention Zhang et al.
    2021, arXiv 2110.12567, section 3):

        D = 1/2 E_k sum_q pi(q | k) c(k, q) + 1/2 E_q sum_k pi(k | q) c(k, q),

        pi(q | k) = softmax over q of -d(k, q),     pi(k | q) = softmax over k of -d(k, q),
        d(k, q) = 2 - 2 cosine(g(k), g(q)),         c(k, q) = |k - q|^2 / s + 1 - cosine(h(k), h(q)),

    with s the mean squared distance of all points, queries and keys, of a head. The navigator g learns, with the
    projections, where the cost c is low; the critic h is trained against them to raise it, by a reversed gradient.
    The vectors' own distance is in the cost because a critic that tells the two sets apart for certain has no gradient
    left to bring them together. d is from 0 to 4, so that no plan leaves out what is far: it would not matter then how
    many points there are where. D is 0 or more, and not 0 for equal sets.

    Registered as an `AlignmentRegularizer` with name "conditional_transport".

    # Parameters

    hidden_dim : `int`, optional (default = `32`)
        Of the navigator and the critic, each with one hidden layer.
    feature_dim : `int`, optional (default = `16`)
        Of what they give.
    share_networks : `bool`, optional (default = `False`)
        Let the layer's heads share one navigator and one critic; by default each has its own.
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
        feature_dim: int = 16,
        share_networks: bool = False,
    ) -> None:
        super().__init__(num_heads, head_dim, weight, warmup_batches)
        require_at_least(1, hidden_dim, "hidden_dim")
        require_at_least(1, feature_dim, "feature_dim")
        num_networks = 1 if share_networks else num_heads
        self._navigator = HeadNetwork(num_networks, head_dim, hidden_dim, feature_dim, adversary=False)
        self._critic = HeadNetwork(num_networks, head_dim, hidden_dim, feature_dim, adversary=True)
        self.requires_grad_(weight > 0)

    def distances(self, queries: torch.Tensor, keys: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
        # Shape (all): (batch_size, num_heads, num_queries, num_keys)
        costs = relative_squared_distances(queries, keys, mass, scale=None)[0]
        costs = costs + 1 - _cosines(self._critic(queries), self._critic(keys))
        navigation = 2 * _cosines(self._navigator(queries), self._navigator(keys)) - 2
        there = mass > 0
        query_of_key = softmax(navigation, there[:, None, :, None], dim=-2)
        key_of_query = softmax(navigation, there[:, None, None, :], dim=-1)
        # Shape (both): (batch_size, num_heads)
        of_keys = ((query_of_key * costs).sum(dim=-2) * mass.unsqueeze(1)).sum(dim=-1)
        of_queries = ((key_of_query * costs).sum(dim=-1) * mass.unsqueeze(1)).sum(dim=-1)
        return (of_keys + of_queries) / 2


def _cosines(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return normalize(first, dim=-1) @ normalize(second, dim=-1).transpose(-1, -2)
