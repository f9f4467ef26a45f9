from typing import Optional

import torch

from regattn_allennlp.modules.latent_alignment.latent_alignment import AlignmentQueries


class PriorSupport:
    """
    The positions that the prior of each query gives weight to. All that a categorical alignment computes is on them
    alone: a sparse prior makes every sum shorter, and padding is in none.

    A weight counts if it is a normal number of its dtype (at least 1e-38 in float32), so that its logarithm has a
    finite gradient.

    # Parameters

    queries : `AlignmentQueries`
    top_k : `int`, optional (default = `None`)
        Only this many of the most probable positions of each query, their weights renormalized to sum to 1.

    # Attributes

    positions : `torch.LongTensor`
        Shape (num_queries, size), where `size` is the largest number of positions that a query has.
    included : `torch.BoolTensor`
        Shape (num_queries, size): the rest of a row is filler.
    log_prior : `torch.Tensor`
        Shape (num_queries, size): log p(z | x, q), and 0 at the filler.
    """

    def __init__(self, queries: AlignmentQueries, top_k: Optional[int] = None) -> None:
        weights = queries.weights
        if weights.dtype in (torch.float16, torch.bfloat16):
            weights = weights.float()
        # Not ">=": a weight that is NaN is to be seen in the result.
        included = queries.mask & ~(weights < torch.finfo(weights.dtype).tiny)
        self._shape = num_queries, num_positions = weights.size()
        size = int(included.sum(-1).amax())
        if top_k is not None:
            size = min(size, top_k)
        if size == num_positions:
            self.positions = torch.arange(num_positions, device=weights.device).expand(num_queries, -1)
        else:
            self.positions = weights.detach().masked_fill(~included, -1.0).topk(size, sorted=False).indices
        self.included = included.gather(1, self.positions)
        # Shape: (num_queries, size)
        self.log_prior = torch.where(self.included, weights.gather(1, self.positions), 1.0).log()
        if top_k is not None:
            self.log_prior = self.log_softmax(self.log_prior)

    @property
    def size(self) -> int:
        return self.positions.size(1)

    def posterior(self, scores: torch.Tensor, with_prior: bool = False) -> torch.Tensor:
        """
        The logarithm of the distribution on the support that has these `scores`, of shape
        (num_queries, num_positions), or these and the logarithms of the prior, which gets no gradient from here.
        Outside the support it has no weight: there its divergence from the prior would be infinite. Shape of the
        result: (num_queries, size), 0 at the filler.
        """
        scores = scores.to(self.log_prior.dtype).gather(1, self.positions)
        return self.log_softmax(scores + self.log_prior.detach() if with_prior else scores)

    def at_all_positions(self, log_probabilities: torch.Tensor) -> torch.Tensor:
        """The probabilities whose logarithms on the support these are. Shape: (num_queries, num_positions)."""
        probabilities = torch.where(self.included, log_probabilities.exp(), 0.0)
        return probabilities.new_zeros(self._shape).scatter_add(1, self.positions, probabilities)

    def log_softmax(self, scores: torch.Tensor) -> torch.Tensor:
        """Over the support, of `scores` of shape (num_queries, size); 0 at the filler."""
        log_probabilities = self.without_filler(scores).log_softmax(-1)
        return log_probabilities.masked_fill(~self.included, 0.0)

    def without_filler(self, log_probabilities: torch.Tensor) -> torch.Tensor:
        """-inf at the filler."""
        return log_probabilities.masked_fill(~self.included, -torch.inf)

    def expectation(self, log_probabilities: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """sum_z exp(log_probabilities_z) values_z of each query; both have the shape (num_queries, size)."""
        return torch.where(self.included, log_probabilities.exp() * values, 0.0).sum(-1)

    def divergence_from_prior(self, log_posterior: torch.Tensor) -> torch.Tensor:
        """KL(q || p) of each query, in nats, for log q of shape (num_queries, size)."""
        return self.expectation(log_posterior, log_posterior - self.log_prior)

    def sample(self, log_probabilities: torch.Tensor, num_samples: int) -> torch.Tensor:
        """
        Independent samples of log probabilities of shape (num_queries, size). Shape of the result:
        (num_queries, num_samples): indices into a row of the support.
        """
        # Shape: (num_queries, num_samples, size)
        log_probabilities = self.without_filler(log_probabilities.detach()).unsqueeze(1).expand(-1, num_samples, -1)
        return (log_probabilities + gumbel_noise(log_probabilities)).argmax(-1)

    def log_likelihood_of_samples(self, queries: AlignmentQueries, samples: torch.Tensor) -> torch.Tensor:
        """log p(y | x_z) for what `sample` gives, in its shape, of queries with one target each."""
        numbers = torch.arange(len(samples), device=samples.device).repeat_interleave(samples.size(1))
        positions = self.positions.gather(1, samples)
        return queries.log_likelihood_of_positions(numbers, positions.flatten()).view_as(samples)

    def log_likelihood(self, queries: AlignmentQueries, numbers: Optional[torch.Tensor] = None) -> torch.Tensor:
        """
        log p(y | x_z) at every z of the support, of all queries or of those with these `numbers`. Shape of the result:
        (num_queries, size) or (num_queries, size, num_outcomes), 0 at the filler.
        """
        if numbers is None:
            numbers = torch.arange(len(self.positions), device=self.positions.device)
        rows, columns = self.included[numbers].nonzero(as_tuple=True)
        pairs = numbers[rows]
        log_likelihoods = queries.log_likelihood_of_positions(pairs, self.positions[pairs, columns])
        shape = (len(numbers), self.size, *log_likelihoods.shape[1:])
        if len(rows) == shape[0] * shape[1]:
            return log_likelihoods.view(shape)
        return log_likelihoods.new_zeros(shape).index_put((rows, columns), log_likelihoods)


def gumbel_noise(like: torch.Tensor) -> torch.Tensor:
    """Independent samples of the standard Gumbel distribution, in the shape and dtype of `like`."""
    exponential = torch.empty(like.shape, dtype=like.dtype, device=like.device).exponential_()
    return -exponential.clamp(min=torch.finfo(like.dtype).tiny).log()
