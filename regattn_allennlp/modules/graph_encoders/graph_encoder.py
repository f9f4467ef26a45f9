import torch
from allennlp.common import Registrable


class GraphEncoder(torch.nn.Module, Registrable):
    """
    Encodes the nodes of graphs by attention over their neighbors.
    """

    default_implementation = "graph_attention"

    def get_input_dim(self) -> int:
        raise NotImplementedError

    def get_output_dim(self) -> int:
        raise NotImplementedError

    def attended(self, adjacency: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """
        Which nodes, the columns, each node, a row, may attend to: its neighbors, and what a subclass adds to them or
        leaves out. Parameters and shape are those of `forward`'s `adjacency` and `mask`; padding is nowhere in it.
        """
        return adjacency & mask.unsqueeze(1) & mask.unsqueeze(2)

    def forward(
        self, nodes: torch.Tensor, adjacency: torch.Tensor, mask: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """
        # Parameters

        nodes : `torch.Tensor`
            Shape (batch_size, num_nodes, input_dim).
        adjacency : `torch.BoolTensor`
            Shape (batch_size, num_nodes, num_nodes): true where the row's node is reached by an edge from the
            column's.
        mask : `torch.BoolTensor`
            Shape (batch_size, num_nodes): which nodes there are.

        # Returns

        `Tuple[torch.Tensor, torch.Tensor]`
            The encoded nodes, of shape (batch_size, num_nodes, output_dim), and the weights of the last layer, of
            shape (batch_size, num_heads, num_nodes, num_nodes): those of each row sum to 1, or are all 0 where it has
            nothing in `attended`.
        """
        raise NotImplementedError
