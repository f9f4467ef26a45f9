from collections.abc import Callable

import torch

# How many numbers the log-likelihoods of one chunk may have: in float32 they take 64 MiB.
MAX_CHUNK_SIZE = 2**24
# How many contexts the first chunk has: few enough for the outcomes of any model, whose number is not known before.
FIRST_CHUNK_CONTEXTS = 1024


def in_query_chunks(
    function: Callable[[torch.Tensor], torch.Tensor], num_queries: int, contexts_per_query: int, device: torch.device
) -> torch.Tensor:
    """
    `function(numbers)` of all queries, where it gives one row for each of the numbers of queries it gets, computed
    from the log-likelihoods of `contexts_per_query` contexts a query.

    Without gradients, that is at test time, only so many queries at a time that whole distributions of the outcomes
    fit into memory. With gradients all are kept for the backward pass anyhow: one call.
    """
    numbers = torch.arange(num_queries, device=device)
    if torch.is_grad_enabled():
        return function(numbers)
    first_chunk = max(FIRST_CHUNK_CONTEXTS // contexts_per_query, 1)
    first = function(numbers[:first_chunk])
    chunk = max(MAX_CHUNK_SIZE // (contexts_per_query * first.shape[1:].numel()), 1)
    return torch.cat([first, *(function(part) for part in numbers[first_chunk:].split(chunk) if len(part))])
