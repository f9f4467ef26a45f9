import torch
from allennlp.common import Params

from regattn_allennlp.modules.alignment_regularizer import AlignmentRegularizer

KINDS = ("adversarial", "conditional_transport", "mmd", "sinkhorn")
MINIMAX = ("adversarial", "conditional_transport")
NUM_HEADS = 2
HEAD_DIM = 3
# Sinkhorn's iterations end somewhere: here near enough to the solution to take differences of.
EXACT = {"sinkhorn": {"epsilon": 0.5, "tolerance": 1e-10, "max_iterations": 20000}}


def build(kind: str, num_heads: int = NUM_HEADS, head_dim: int = HEAD_DIM, **config) -> AlignmentRegularizer:
    params = Params({"type": kind, **EXACT.get(kind, {}), **config})
    return AlignmentRegularizer.from_params(params, num_heads=num_heads, head_dim=head_dim).double()


def points(batch_size: int = 2, num_tokens: int = 5, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys, as of two different distributions."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch_size, NUM_HEADS, num_tokens, HEAD_DIM)
    queries = torch.randn(shape, generator=generator, dtype=torch.double)
    return queries, 0.7 * torch.randn(shape, generator=generator, dtype=torch.double) + 0.5


def energy_distance(first: torch.Tensor, second: torch.Tensor) -> float:
    """Of two sets of points, (n, dim) and (m, dim): 0 for equal sets alone (Szekely & Rizzo 2013)."""
    return (2 * torch.cdist(first, second).mean() - torch.cdist(first, first).mean()).item() - torch.cdist(
        second, second
    ).mean().item()


def move_together(regularizer: AlignmentRegularizer, num_steps: int, learning_rate: float) -> tuple[float, float]:
    """
    Two clouds of points, in the places of a head's queries and keys, trained by the regularizer alone, with
    its networks. Their energy distances at first and at the end.
    """
    torch.manual_seed(0)
    queries = torch.nn.Parameter(torch.randn(1, 1, 24, HEAD_DIM, dtype=torch.double))
    keys = torch.nn.Parameter(0.5 * torch.randn(1, 1, 24, HEAD_DIM, dtype=torch.double) + 2)
    networks = {"params": list(regularizer.parameters()), "lr": learning_rate / 10}
    optimizer = torch.optim.Adam([{"params": [queries, keys]}, networks], lr=learning_rate)
    before = energy_distance(queries[0, 0], keys[0, 0])
    for _ in range(num_steps):
        optimizer.zero_grad()
        regularizer(queries, keys).backward()
        optimizer.step()
    return before, energy_distance(queries[0, 0], keys[0, 0])
