from typing import Optional

import torch
from allennlp.common import Lazy
from allennlp.modules.attention import Attention

from regattn_allennlp.modules.attention import RegularizedAttention
from regattn_allennlp.modules.inference_networks import BilinearInferenceNetwork, InferenceNetwork
from regattn_allennlp.modules.latent_alignment.categorical_alignment import CategoricalAlignment
from regattn_allennlp.modules.latent_alignment.gradient_estimators import EnumerationEstimator, GradientEstimator
from regattn_allennlp.modules.latent_alignment.latent_alignment import AlignmentQueries, LatentAlignment
from regattn_allennlp.modules.latent_alignment.prior_support import PriorSupport
from regattn_allennlp.operators import Softmax


@LatentAlignment.register("variational")
class VariationalAlignment(CategoricalAlignment):
    """
    Variational attention (Deng et al. 2018, arXiv 1807.03756, section 3): training maximizes

        ELBO = E_q[log p(y | x_z)] - KL(q || p)  <=  log sum_z p(z) p(y | x_z),

    with an inference network q(z | x, q, y) that sees the target; equal when q is the true posterior. q is restricted
    to the prior's support (elsewhere the KL would be infinite), so every attention that gives weights will do.

        "latent_alignment": {"type": "variational", "estimator": "enumeration"}
        "latent_alignment": {"type": "variational", "estimator": {"type": "gumbel_softmax", "temperature": 0.5}}

    Registered as a `LatentAlignment` with name "variational".

    # Parameters

    estimator : `GradientEstimator`, optional (default = "enumeration")
        How the ELBO and its gradient are computed: "enumeration", "reinforce", "gumbel_softmax" or "wake_sleep"; a
        name, or a block with the estimator's own keys.
    inference_network : `Lazy[InferenceNetwork]`, optional (default = "bilinear")
        It gets the sizes of its inputs from here.
    prior_in_posterior : `bool`, optional (default = `False` with softmax's prior, `True` with a sparse one)
        If false, q is the softmax of the inference network's scores, as in the paper. If true it is in proportion to
        p(z | x, q) exp(scores), the form of Bayes' rule: the network has to learn log p(y | x_z) alone, and starts
        near the prior. q takes the prior as an input, without a gradient. A sparse prior wants it: a network without
        it has to find out for itself how the weights differ within a support that is another one in each step.
    marginal_top_k : `int`, optional (default = `None`)
        See `CategoricalAlignment`.
    source_dim : `int`, optional (default = `None`)
        Of the embedded source, in models that have one: for the inference network.
    attention, memory_dim, query_dim, target_dim
        See `LatentAlignment`.
    """

    def __init__(
        self,
        attention: Attention,
        memory_dim: int,
        query_dim: int,
        target_dim: int,
        estimator: Optional[GradientEstimator] = None,
        inference_network: Lazy[InferenceNetwork] = Lazy(BilinearInferenceNetwork),  # noqa: B008
        prior_in_posterior: Optional[bool] = None,
        marginal_top_k: Optional[int] = None,
        source_dim: Optional[int] = None,
    ) -> None:
        super().__init__(attention, memory_dim, query_dim, target_dim, marginal_top_k)
        self._estimator = estimator or EnumerationEstimator()
        self._prior_in_posterior = _may_be_sparse(attention) if prior_in_posterior is None else prior_in_posterior
        self.inference_network = inference_network.construct(
            memory_dim=memory_dim, query_dim=query_dim, target_dim=target_dim, source_dim=source_dim
        )

    def objective(self, queries: AlignmentQueries, posterior_scores: Optional[torch.Tensor] = None) -> torch.Tensor:
        support = PriorSupport(queries)
        return self._estimator.objective(queries, support, self._log_posterior(support, posterior_scores))

    def approximate_posterior(
        self, queries: AlignmentQueries, posterior_scores: Optional[torch.Tensor] = None
    ) -> torch.Tensor:
        """q as it is trained: on the prior's support, and with `prior_in_posterior` in proportion to the prior."""
        support = PriorSupport(queries)
        return support.at_all_positions(self._log_posterior(support, posterior_scores))

    def _log_posterior(self, support: PriorSupport, posterior_scores: Optional[torch.Tensor]) -> torch.Tensor:
        assert posterior_scores is not None, "the model gives what the inference network says"
        return support.posterior(posterior_scores, with_prior=self._prior_in_posterior)


def _may_be_sparse(attention: Attention) -> bool:
    # AllenNLP's own attentions are all softmax's.
    return isinstance(attention, RegularizedAttention) and not isinstance(attention.regularized_max, Softmax)
