from typing import Optional

import torch
from allennlp.modules.attention import Attention

from regattn_allennlp.modules.attention.regularized_attention import RegularizedAttention


def attend(
    attention: Attention, queries: torch.Tensor, memory: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, Optional[torch.Tensor]]:
    """
    Attends from every query to every row of the memory, by any `Attention` that gives weights.

    # Parameters

    queries : `torch.Tensor`
        Shape (batch_size, num_queries, query_dim).
    memory : `torch.Tensor`
        Shape (batch_size, num_positions, memory_dim).
    mask : `torch.BoolTensor`
        Shape (batch_size, num_positions).

    # Returns

    `Tuple[torch.Tensor, Optional[torch.Tensor]]`
        The weights and, if the attention is a `RegularizedAttention`, the scores they are made of; both of shape
        (batch_size, num_queries, num_positions).
    """
    if isinstance(attention, RegularizedAttention):
        scores = attention.scores(queries, memory)
        return attention.weights(scores, mask.unsqueeze(1)), scores
    # Takes one vector an item: each query becomes an item of its own.
    batch_size, num_queries, _ = queries.size()
    weights = attention(
        queries.flatten(0, 1),
        memory.unsqueeze(1).expand(-1, num_queries, -1, -1).flatten(0, 1),
        mask.unsqueeze(1).expand(-1, num_queries, -1).flatten(0, 1),
    )
    return weights.view(batch_size, num_queries, -1), None
