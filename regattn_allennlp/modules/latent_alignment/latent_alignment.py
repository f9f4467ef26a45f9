from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional

import torch
from allennlp.common import Registrable
from allennlp.modules.attention import Attention

from regattn_allennlp.modules.attention import require_weights
from regattn_allennlp.modules.inference_networks import InferenceNetwork

# What of the positions can be told of a given target, in this order: what is believed without it, what is to be
# believed with it, and what an inference network holds that to be.
DISTRIBUTIONS = ("prior", "posterior", "approximate_posterior")


@dataclass
class AlignmentQueries:
    """
    Queries, each with the positions of one item to be aligned with: the target words of a batch with their source
    sentences, or questions with the regions of their images. Padding is no query; `mask` and 0 in `weights` keep
    padding out of the positions.

    # Parameters

    weights : `torch.Tensor`
        Shape (num_queries, num_positions): the attention weights, which are the prior p(z | x, q).
    mask : `torch.BoolTensor`
        Shape (num_queries, num_positions): which positions there are; at least one for each query.
    values : `torch.Tensor`
        Shape (batch_size, num_positions, value_dim): x_1..x_n of each item.
    items : `torch.LongTensor`
        Shape (num_queries,): the item of each query, an index into `values`.
    log_likelihood : `Callable[[torch.Tensor, torch.LongTensor], torch.Tensor]`
        log p(y | context, q) in nats: given contexts of shape (k, value_dim), and for each of them the number of the
        query it belongs to, of shape (k,), the result has the shape (k,) if each query has one target y, or
        (k, num_outcomes) for the whole distribution of y.
    scores : `torch.Tensor`, optional
        Shape (num_queries, num_positions): what the `weights` are made of; `None` for attentions that give no scores.
    contexts : `torch.Tensor`, optional
        Shape (num_queries, value_dim): the mixtures sum_z weights_z x_z, from a model that has them for less. Without
        them each query gets a copy of its item's values.
    """

    weights: torch.Tensor
    mask: torch.Tensor
    values: torch.Tensor
    items: torch.Tensor
    log_likelihood: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    scores: Optional[torch.Tensor] = None
    contexts: Optional[torch.Tensor] = None

    def log_likelihood_of_expectation(self) -> torch.Tensor:
        """log p(y | sum_z weights_z x_z) of each query, for its own weights."""
        if self.contexts is None:
            return self.log_likelihood_of_mixture(self.weights)
        return self.log_likelihood(self.contexts, torch.arange(len(self.weights), device=self.weights.device))

    def log_likelihood_of_positions(self, numbers: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """
        log p(y | x_z) for pairs of a query's number and a position z, both of shape (k,). Shape of the result: (k,) or
        (k, num_outcomes).
        """
        # The gradient of index_select is a plain sum; that of indexing costs several times as much.
        rows = self.items[numbers] * self.values.size(1) + positions
        return self.log_likelihood(self.values.flatten(0, 1).index_select(0, rows), numbers)

    def log_likelihood_of_mixtures(self, weights: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """
        log p(y | sum_z weights_z x_z) for several mixtures of each of the queries with these numbers: `weights` has
        the shape (num_numbers, num_mixtures, num_positions), the result (num_numbers, num_mixtures) or
        (num_numbers, num_mixtures, num_outcomes).
        """
        # Shape: (num_numbers, num_mixtures, value_dim)
        contexts = torch.bmm(weights, self.values.index_select(0, self.items[numbers]))
        log_likelihoods = self.log_likelihood(contexts.flatten(0, 1), numbers.repeat_interleave(weights.size(1)))
        return log_likelihoods.unflatten(0, weights.shape[:2])

    def log_likelihood_of_mixture(self, weights: torch.Tensor) -> torch.Tensor:
        """log p(y | sum_z weights_z x_z) of each query, for `weights` of shape (num_queries, num_positions)."""
        numbers = torch.arange(len(weights), device=weights.device)
        return self.log_likelihood_of_mixtures(weights.unsqueeze(1), numbers).squeeze(1)


class LatentAlignment(torch.nn.Module, Registrable):
    """
    How attention weights are taken for a latent variable: which position z of a memory x_1..x_n a query q is aligned
    with, given the target y (Deng et al. 2018, arXiv 1807.03756). The attention weights are the prior p(z | x, q).

    Registered as what models take as "latent_alignment"; the default is "soft": attention as usual.

    # Parameters

    attention : `Attention`
        What makes the prior; only looked at, to refuse those that an alignment cannot be combined with.
    memory_dim, query_dim, target_dim : `int`
        Sizes of the vectors that an inference network gets.

    A model constructs it with these four, and, for those that take it, with `source_dim`, the size of an embedded
    source if it has one; a config gives what subclasses take besides.

    # Raises

    `ConfigurationError` for an attention with `"normalize": false`, which gives no weights.
    """

    default_implementation = "soft"

    def __init__(self, attention: Attention, memory_dim: int, query_dim: int, target_dim: int) -> None:
        super().__init__()
        require_weights(attention, f'the model with "latent_alignment" {type(self).__name__}')
        # q(z | x, q, y), of the alignments that have one: with it the model makes `posterior_scores`. Not an attribute
        # of the class: that would hide a submodule of this name.
        self.inference_network: Optional[InferenceNetwork] = None
        # Of how many of the most probable positions the marginal is, of the alignments that can be told: see
        # `CategoricalAlignment`.
        self.marginal_top_k: Optional[int] = None

    def objective(self, queries: AlignmentQueries, posterior_scores: Optional[torch.Tensor] = None) -> torch.Tensor:
        """
        What training maximizes, for each query, in nats. Its gradient is that of the objective, or an estimate of it.

        # Parameters

        posterior_scores : `torch.Tensor`, optional
            Shape (num_queries, num_positions): what the inference network says, if there is one.

        # Returns

        Shape (num_queries,).
        """
        raise NotImplementedError

    def log_marginal(self, queries: AlignmentQueries) -> torch.Tensor:
        """
        The logarithm of the probability that the trained model gives to y, whatever it was trained by, in nats.

        # Returns

        Shape (num_queries,) or (num_queries, num_outcomes), as `queries.log_likelihood` gives it.
        """
        raise NotImplementedError

    def posterior(self, queries: AlignmentQueries) -> Optional[torch.Tensor]:
        """
        What of the positions is to be believed once the target is known, p(z | x, q, y), whatever the model was
        trained by: by Bayes' rule from the prior and the likelihoods, of queries with one target each.

        # Returns

        Shape (num_queries, num_positions), each row sums to 1; `None` where there is no latent variable.
        """
        return None

    def approximate_posterior(
        self, queries: AlignmentQueries, posterior_scores: Optional[torch.Tensor] = None
    ) -> Optional[torch.Tensor]:
        """
        What the inference network holds the posterior to be, q(z | x, q, y), which training has fitted to it.

        # Parameters

        posterior_scores : `torch.Tensor`, optional
            As of `objective`.

        # Returns

        Shape (num_queries, num_positions), each row sums to 1; `None` where there is no inference network.
        """
        return None

    @property
    def distributions(self) -> tuple[str, ...]:
        """
        Those of the `DISTRIBUTIONS` that there are: without a latent variable the prior alone, and only with an
        inference network all.
        """
        return DISTRIBUTIONS[:2] if self.inference_network is None else DISTRIBUTIONS
