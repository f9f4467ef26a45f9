from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Optional

import torch
from allennlp.common import FromParams, Lazy, Params
from allennlp.modules.attention import Attention

from regattn_allennlp.modules.latent_alignment import AlignmentQueries, LatentAlignment
from regattn_allennlp.operators import RegularizedMax, Softmax

VALUE_DIM, NUM_OUTCOMES = 3, 4
MEMORY_DIM, QUERY_DIM, TARGET_DIM = 5, 6, 7


class AnyModel(FromParams):
    """Takes and constructs a latent alignment as models do."""

    def __init__(self, attention: Attention, latent_alignment: Optional[Lazy[LatentAlignment]] = None) -> None:
        latent_alignment = latent_alignment or Lazy(LatentAlignment)
        self.latent_alignment = latent_alignment.construct(
            attention=attention, memory_dim=MEMORY_DIM, query_dim=QUERY_DIM, target_dim=TARGET_DIM
        )


def build(alignment: Any, attention: Any = "softmax") -> LatentAlignment:
    """The latent alignment of a model with these two blocks in its config."""
    return AnyModel.from_params(Params({"attention": attention, "latent_alignment": alignment})).latent_alignment


@dataclass
class Problem:
    """Queries whose likelihood is a small network's, in float64; all tensors are leaves that ask for gradients."""

    scores: torch.Tensor
    posterior_scores: torch.Tensor
    values: torch.Tensor
    mask: torch.Tensor
    items: torch.Tensor
    hidden: torch.Tensor
    output: torch.Tensor
    targets: torch.Tensor
    contexts_seen: int = 0

    def log_distribution(self, contexts: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        return (torch.tanh(contexts + self.hidden[numbers]) @ self.output).log_softmax(-1)

    def log_likelihood(self, contexts: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        self.contexts_seen += len(contexts)
        log_distribution = self.log_distribution(contexts, numbers)
        return log_distribution.gather(1, self.targets[numbers].unsqueeze(1)).squeeze(1)

    def queries(self, regularized_max: Optional[RegularizedMax] = None, outcomes: bool = False) -> AlignmentQueries:
        return AlignmentQueries(
            weights=(regularized_max or Softmax())(self.scores, self.mask),
            mask=self.mask,
            values=self.values,
            items=self.items,
            log_likelihood=self.log_distribution if outcomes else self.log_likelihood,
            scores=self.scores,
        )

    def log_likelihoods(self) -> torch.Tensor:
        """log p(y | x_z) of every query and position, one at a time. Shape: (num_queries, num_positions)."""
        return torch.stack(
            [
                torch.stack(
                    [
                        self.log_distribution(self.values[item, z].unsqueeze(0), torch.tensor([number]))[0, target]
                        for z in range(self.values.size(1))
                    ]
                )
                for number, (item, target) in enumerate(zip(self.items.tolist(), self.targets.tolist(), strict=True))
            ]
        )

    def padded(self, num_positions: int) -> "Problem":
        """With that many more positions, of which there are none."""
        return replace(
            self,
            scores=torch.nn.functional.pad(self.scores, (0, num_positions), value=7.0),
            posterior_scores=torch.nn.functional.pad(self.posterior_scores, (0, num_positions), value=9.0),
            values=torch.nn.functional.pad(self.values, (0, 0, 0, num_positions), value=5.0),
            mask=torch.nn.functional.pad(self.mask, (0, num_positions)),
        )

    def leaves(self) -> dict[str, torch.Tensor]:
        return {name: getattr(self, name) for name in ("scores", "posterior_scores", "values", "hidden", "output")}


def problem(
    seed: int = 0, batch_size: int = 2, queries_per_item: int = 3, lengths: tuple[int, ...] = (5, 3)
) -> Problem:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    items = torch.arange(batch_size).repeat_interleave(queries_per_item)
    num_queries, num_positions = len(items), max(lengths)
    return Problem(
        scores=normal(num_queries, num_positions),
        posterior_scores=normal(num_queries, num_positions),
        values=normal(batch_size, num_positions, VALUE_DIM),
        mask=(torch.arange(num_positions) < torch.tensor(lengths).unsqueeze(1))[items],
        items=items,
        hidden=normal(num_queries, VALUE_DIM),
        output=normal(VALUE_DIM, NUM_OUTCOMES),
        targets=torch.randint(NUM_OUTCOMES, (num_queries,), generator=generator),
    )


def replicas(number: int, seed: int = 0, num_positions: int = 4) -> Problem:
    """
    One query as many times, each with an item of its own: the gradients with respect to `scores`, `posterior_scores`
    and `values` of a sum over the queries are as many independent estimates.
    """
    one = problem(seed, batch_size=1, queries_per_item=1, lengths=(num_positions,))

    def repeat(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().repeat(number, *[1] * (tensor.dim() - 1)).requires_grad_(tensor.requires_grad)

    return replace(
        one,
        scores=repeat(one.scores),
        posterior_scores=repeat(one.posterior_scores),
        values=repeat(one.values),
        mask=repeat(one.mask),
        items=torch.arange(number),
        hidden=repeat(one.hidden),
        targets=repeat(one.targets),
    )


def estimates(objective: Callable[[Problem], torch.Tensor], number: int, seed: int = 1) -> dict[str, torch.Tensor]:
    """The "value" and the gradients, in `number` independent estimates along the first dimension."""
    torch.manual_seed(seed)
    many = replicas(number)
    value = objective(many)
    names = ("scores", "posterior_scores", "values")
    gradients = torch.autograd.grad(value.sum(), [getattr(many, name) for name in names], allow_unused=True)
    return {"value": value.detach(), **{n: g for n, g in zip(names, gradients, strict=True) if g is not None}}


def assert_means(
    estimated: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], deviations: float = 4.5
) -> None:
    """
    Each mean is what is expected, within so many standard errors: a correct estimator is beyond 4.5 of them with a
    probability of 7e-6 for each number, and the seeds are fixed.
    """
    assert estimated.keys() >= expected.keys()
    for name, value in expected.items():
        samples = estimated[name]
        error = samples.std(0) / len(samples) ** 0.5
        difference = (samples.mean(0) - value).abs()
        assert (difference <= deviations * error + 1e-9).all(), (name, difference / error)
