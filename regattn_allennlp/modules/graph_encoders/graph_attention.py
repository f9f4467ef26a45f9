from typing import Optional

import torch
from allennlp.common import Lazy
from allennlp.common.checks import ConfigurationError
from allennlp.modules.attention import Attention

from regattn_allennlp.modules.alignment_regularizer import AlignmentRegularizer
from regattn_allennlp.modules.graph_encoders.graph_encoder import GraphEncoder
from regattn_allennlp.modules.seq2seq_encoders import MultiHeadSelfAttention

NEIGHBORHOODS = ("edges", "all", "none")


@GraphEncoder.register("graph_attention")
class GraphAttention(GraphEncoder):
    """
    Graph attention (Velickovic et al. 2018, arXiv 1710.10903): self-attention with the edges as the mask, so that each
    node attends to its neighbors and to itself; with any of this package's attentions in the place of softmax, and
    with queries and keys (Vaswani et al. 2017, arXiv 1706.03762) where the paper has a small network of both nodes.
    The layers are those of "multi_head_self_attention"; for alignment attention (Zhang et al. 2021, arXiv 2110.12567)
    each carries an `AlignmentRegularizer` of the queries and the keys of all nodes of a graph.

    The output for a node does not depend on how the nodes are numbered, but with fusedmax, which draws together the
    weights of neighbors whose numbers follow each other.

    Registered as a `GraphEncoder` with name "graph_attention", the default.

    # Parameters

    input_dim : `int`
        Also the output's.
    num_heads : `int`
    num_layers : `int`, optional (default = `1`)
        A node knows of nodes as many edges away.
    self_loops : `bool`, optional (default = `True`)
        Whether a node attends to itself, too. Without, it does so only where an edge leads from the node to itself,
        and a node that no edge reaches attends to nothing.
    neighborhood : `str`, optional (default = `"edges"`)
        With which a baseline shows what the edges are good for: with "all", each node attends to all others of its
        graph, and with "none" to no other.
    attention : `Attention`, optional (default = "softmax")
        Each layer has one of its own, and so what it learns is of its own.
    head_dim, feedforward_hidden_dim, dropout
        Of each layer: see `SelfAttentionLayer`.
    alignment_regularizer : `AlignmentRegularizer`, optional
        Each layer has one of its own; to compare regularizers, change this block and nothing else.

    # Raises

    `ConfigurationError`
        For another `neighborhood`, and as `SelfAttentionLayer`.
    """

    def __init__(
        self,
        input_dim: int,
        num_heads: int,
        num_layers: int = 1,
        self_loops: bool = True,
        neighborhood: str = "edges",
        attention: Optional[Lazy[Attention]] = None,
        head_dim: Optional[int] = None,
        feedforward_hidden_dim: Optional[int] = None,
        dropout: float = 0.0,
        alignment_regularizer: Optional[Lazy[AlignmentRegularizer]] = None,
    ) -> None:
        super().__init__()
        if neighborhood not in NEIGHBORHOODS:
            raise ConfigurationError(
                f'"neighborhood" must be one of {", ".join(NEIGHBORHOODS)}, but is {neighborhood!r}'
            )
        self._self_loops = self_loops
        self._neighborhood = neighborhood
        self._self_attention = MultiHeadSelfAttention(
            input_dim,
            num_heads,
            num_layers,
            attention,
            head_dim,
            feedforward_hidden_dim,
            dropout=dropout,
            alignment_regularizer=alignment_regularizer,
        )

    def get_input_dim(self) -> int:
        return self._self_attention.get_input_dim()

    def get_output_dim(self) -> int:
        return self._self_attention.get_output_dim()

    def attended(self, adjacency: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self._neighborhood != "edges":
            adjacency = torch.full_like(adjacency, self._neighborhood == "all")
        own = torch.eye(adjacency.size(1), dtype=torch.bool, device=adjacency.device)
        if self._self_loops:
            adjacency = adjacency | own
        elif self._neighborhood == "all":
            adjacency = adjacency & ~own
        return super().attended(adjacency, mask)

    def forward(
        self, nodes: torch.Tensor, adjacency: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return self._self_attention.attend(nodes, mask, self.attended(adjacency, mask))
