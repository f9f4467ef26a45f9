import torch
from allennlp.common import Registrable


class InferenceNetwork(torch.nn.Module, Registrable):
    """
    q(z | x, q, y): with which position z of a memory x_1..x_n a query is aligned, said by a network that also sees
    the target y (Deng et al. 2018, arXiv 1807.03756, section 3). It is used in training alone.

    Registered as what the latent alignments "variational" and "dirichlet" take as "inference_network".

    # Parameters

    memory_dim, query_dim, target_dim : `int`
        Sizes of the vectors that `forward` gets. The latent alignment gives these three; a config gives what
        subclasses take besides.
    """

    default_implementation = "bilinear"

    def __init__(self, memory_dim: int, query_dim: int, target_dim: int) -> None:
        super().__init__()

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
            Shape (batch_size, num_positions, memory_dim).
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
